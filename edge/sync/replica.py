"""The inventory as vCenter last showed it: a hash and a revision per object, no content."""

import dataclasses
from collections.abc import Iterator

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
