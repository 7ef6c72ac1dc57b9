"""What vCenter is to be asked about afresh: absence alone never removes an object."""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterable


class Reason(enum.Enum):
    """Reason an object is asked about, most urgent first."""

    WANTED = "wanted"
    """The control plane wants an answer, also when nothing has changed."""
    FOREIGN = "foreign"
    """The control plane holds it and the snapshot does not know it."""
    DOUBTED = "doubted"
    """A full read did not show it, or an operation reported it. Silent when nothing changed."""
    UNREAD = "unread"
    """It waits to be sent and its content was not kept."""


@dataclasses.dataclass(slots=True)
class Asked:
    """A question that vCenter has not answered yet."""

    why: Reason
    revision: int
    """The object's revision when it was asked. Whoever changes it meanwhile knows better."""


class VerificationQueue:
    """Keys to ask about, each once at a time.

    Not safe for threads; ``edge.sync.inventory`` holds the lock.
    """

    def __init__(self) -> None:
        self._waiting: dict[Reason, dict[str, None]] = {why: {} for why in Reason}
        self._asked: dict[str, Asked] = {}

    @property
    def has_foreign(self) -> bool:
        """Something that the control plane holds is not settled yet."""
        asked = any(asked.why is Reason.FOREIGN for asked in self._asked.values())
        return asked or bool(self._waiting[Reason.FOREIGN])

    def add(self, key: str, why: Reason) -> None:
        """Ask about an object."""
        self._waiting[why][key] = None

    def seen(self, key: str) -> None:
        """vCenter has shown the object by itself; only a wanted answer is still due."""
        self._waiting[Reason.FOREIGN].pop(key, None)
        self._waiting[Reason.DOUBTED].pop(key, None)
        asked = self._asked.get(key)
        if asked is not None and asked.why is Reason.FOREIGN:
            asked.why = Reason.DOUBTED

    def any_waiting(self, unread: Iterable[str]) -> bool:
        """Tell whether ``take`` would return something."""
        waiting = itertools.chain(*self._waiting.values(), unread)
        return any(key not in self._asked for key in waiting)

    def take(
        self, unread: Iterable[str], most: int, revision_of: Callable[[str], int]
    ) -> list[str]:
        """Take what to ask next, ``unread`` objects last."""
        waiting = [(key, why) for why, keys in self._waiting.items() for key in keys]
        waiting.extend((key, Reason.UNREAD) for key in unread)
        chosen: list[str] = []
        for key, why in waiting:
            if len(chosen) == most:
                break
            if key not in self._asked:
                self._waiting[why].pop(key, None)
                self._asked[key] = Asked(why, revision_of(key))
                chosen.append(key)
        return chosen

    def answered(self, key: str) -> Asked | None:
        """The object need not be asked about again; return the question."""
        return self._asked.pop(key, None)

    def unanswered(self, keys: Iterable[str]) -> None:
        """vCenter did not answer; ask again later."""
        for key in keys:
            asked = self._asked.pop(key, None)
            if asked is not None and asked.why is not Reason.UNREAD:
                self.add(key, asked.why)

    def forget(self, *reasons: Reason) -> None:
        """Drop questions asked for these reasons: a new read or call finds them again."""
        for why in reasons:
            self._waiting[why].clear()
        for asked in self._asked.values():
            if asked.why in reasons:
                asked.why = Reason.DOUBTED
