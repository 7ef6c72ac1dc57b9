"""Which objects vCenter is to be asked about again: absence alone never removes an object."""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterable


class Reason(enum.Enum):
    """Why an object is verified, most urgent first."""

    WANTED = "wanted"
    """The control plane wants an answer, also when nothing has changed."""
    FOREIGN = "foreign"
    """The control plane holds it and the replica does not know it."""
    DOUBTED = "doubted"
    """A full read did not show it, or an operation reported it. Silent when nothing changed."""
    UNREAD = "unread"
    """It waits to be sent and its content was not kept."""


@dataclasses.dataclass(slots=True)
class Question:
    """A question that vCenter has not answered yet."""

    reason: Reason
    revision: int
    """The object's revision when it was asked. Whatever changes it meanwhile is newer."""


class VerificationQueue:
    """Keys to ask about, each once at a time.

    Not safe for threads; ``edge.sync.inventory`` holds the lock.
    """

    def __init__(self) -> None:
        self._waiting: dict[Reason, dict[str, None]] = {reason: {} for reason in Reason}
        self._asked: dict[str, Question] = {}

    @property
    def has_foreign(self) -> bool:
        """Something that the control plane holds has not been verified yet."""
        asked = any(question.reason is Reason.FOREIGN for question in self._asked.values())
        return asked or bool(self._waiting[Reason.FOREIGN])

    def request(self, key: str, reason: Reason) -> None:
        """Have an object verified."""
        self._waiting[reason][key] = None

    def mark_seen(self, key: str) -> None:
        """vCenter has shown the object by itself; only a wanted answer is still due."""
        self._waiting[Reason.FOREIGN].pop(key, None)
        self._waiting[Reason.DOUBTED].pop(key, None)
        question = self._asked.get(key)
        if question is not None and question.reason is Reason.FOREIGN:
            question.reason = Reason.DOUBTED

    def has_waiting(self, unread: Iterable[str]) -> bool:
        """Whether ``next_keys`` would return something."""
        waiting = itertools.chain(*self._waiting.values(), unread)
        return any(key not in self._asked for key in waiting)

    def next_keys(
        self, unread: Iterable[str], most: int, revision_of: Callable[[str], int]
    ) -> list[str]:
        """Choose what to ask next, ``unread`` objects last, and remember that it was asked."""
        waiting = [(key, reason) for reason, keys in self._waiting.items() for key in keys]
        waiting.extend((key, Reason.UNREAD) for key in unread)
        chosen: list[str] = []
        for key, reason in waiting:
            if len(chosen) == most:
                break
            if key not in self._asked:
                self._waiting[reason].pop(key, None)
                self._asked[key] = Question(reason, revision_of(key))
                chosen.append(key)
        return chosen

    def answered(self, key: str) -> Question | None:
        """End the question about an object; None if there is none."""
        return self._asked.pop(key, None)

    def unanswered(self, keys: Iterable[str]) -> None:
        """Put questions that vCenter did not answer back into the queue."""
        for key in keys:
            question = self._asked.pop(key, None)
            if question is not None and question.reason is not Reason.UNREAD:
                self.request(key, question.reason)

    def drop(self, *reasons: Reason) -> None:
        """Drop what waits for these reasons: a new read or call finds it again."""
        for reason in reasons:
            self._waiting[reason].clear()
        for question in self._asked.values():
            if question.reason in reasons:
                question.reason = Reason.DOUBTED
