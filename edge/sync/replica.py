"""The inventory as vCenter last showed it, and of which objects vCenter is to be asked again.

A hash and a revision per object, no content. Absence alone never removes an object: it is verified.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterable, Iterator

from common.digests import Digests


@dataclasses.dataclass(slots=True)
class Entry:
    """One object of the replica."""

    hash: bytes
    revision: int
    read: int
    """Number of the last full read that showed the object."""
    refused: bool = False
    """The control plane refused this state; it counts in no digest until it changes."""


class Replica:
    """Every managed object's hash, with digests over what the control plane accepts.

    Not safe for threads; ``edge.sync.inventory`` holds the lock.
    """

    def __init__(self) -> None:
        self.digests = Digests()
        self.complete = False
        """vCenter has been read to the end at least once."""
        self.unreadable: dict[str, str] = {}
        """Why objects could not be read, or not be sent; their last state stands."""
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._read = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over keys."""
        return iter(self._entries)

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Iterate over keys and entries."""
        return iter(self._entries.items())

    def get(self, key: str) -> Entry | None:
        """Look up an entry, which the caller must not change."""
        return self._entries.get(key)

    def revision_of(self, key: str) -> int:
        """The revision of an object's state, 0 if it is not known."""
        entry = self._entries.get(key)
        return entry.revision if entry else 0

    def record(self, key: str, hash_: bytes) -> bool:
        """Keep the present state of an object; whether it differs from the last one."""
        self.unreadable.pop(key, None)
        entry = self._entries.get(key)
        if entry is not None and entry.hash == hash_:
            entry.read = self._read
            return False
        if entry is not None:
            self._count_out(key, entry)
        self._entries[key] = Entry(hash_, self._next_revision(), self._read)
        self.digests.add(key, hash_)
        return True

    def remove(self, key: str) -> int:
        """Forget an object, known or not, and make the revision of its removal."""
        self.unreadable.pop(key, None)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._count_out(key, entry)
        return self._next_revision()

    def mark_refused(self, key: str, hash_: bytes) -> None:
        """The control plane refused this state; nothing if the object has changed since."""
        entry = self._entries.get(key)
        if entry is not None and entry.hash == hash_ and not entry.refused:
            self._count_out(key, entry)
            entry.refused = True

    def clear_refusal(self, key: str) -> None:
        """Count a refused state again: it is sent once more, or the control plane holds it."""
        entry = self._entries.get(key)
        if entry is not None and entry.refused:
            entry.refused = False
            self.digests.add(key, entry.hash)

    def begin_read(self) -> None:
        """A full read begins."""
        self._read += 1
        self.unreadable.clear()

    def mark_unreadable(self, key: str, reason: str) -> None:
        """An object is there, although its state could not be read."""
        self.unreadable[key] = reason
        entry = self._entries.get(key)
        if entry is not None:
            entry.read = self._read

    def end_read(self) -> list[str]:
        """A full read has ended; list the keys that it did not show."""
        self.complete = True
        return [key for key, entry in self._entries.items() if entry.read != self._read]

    def _count_out(self, key: str, entry: Entry) -> None:
        if not entry.refused:
            self.digests.remove(key, entry.hash)

    def _next_revision(self) -> int:
        self._revision += 1
        return self._revision


class Reason(enum.Enum):
    """Why an object is verified, most urgent first."""

    WANTED = "wanted"
    """The control plane wants an answer, also when nothing has changed."""
    FOREIGN = "foreign"
    """The control plane holds it and the replica does not know it."""
    UNCONFIRMED = "unconfirmed"
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
        self._waiting[Reason.UNCONFIRMED].pop(key, None)
        question = self._asked.get(key)
        if question is not None and question.reason is Reason.FOREIGN:
            question.reason = Reason.UNCONFIRMED

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
                question.reason = Reason.UNCONFIRMED
