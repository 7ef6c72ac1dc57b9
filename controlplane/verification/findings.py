"""What one look finds: values that differ, what is excused, and how much was compared."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

NULL = "NULL"


class Place(Enum):
    """Where something was found."""

    VCENTER = "vcenter"
    OWN = "own"
    NOVA_CELL = "nova-cell"
    NOVA_API = "nova-api"
    GLANCE = "glance"
    PLACEMENT = "placement"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared."""

    vcenter_uuid: str
    object: str
    """Its key in vCenter, for example `VirtualMachine:vm-42`; else what has no object there, for
    example `server:<uuid>`."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what it should be."""

    subject: Subject
    place: Place
    field: str
    expected: str
    """Empty when nothing should be there."""
    found: str
    """Empty when nothing is."""


@dataclass(frozen=True, slots=True)
class Excuse:
    """Something that may rightly differ now."""

    subject: Subject
    reason: str


@dataclass(slots=True)
class Findings:
    """Filled while everything is compared."""

    differences: list[Difference] = field(default_factory=list)
    excuses: list[Excuse] = field(default_factory=list)
    counts: Counter[tuple[Place, str]] = field(default_factory=Counter)
    """How many of each kind were compared in each place."""

    def compare(
        self, subject: Subject, place: Place, name: str, expected: object, found: object
    ) -> None:
        """Note a difference when two values are not equal."""
        if expected != found:
            self.differ(subject, place, name, _text(expected), _text(found))

    def differ(self, subject: Subject, place: Place, name: str, expected: str, found: str) -> None:
        """Note a difference."""
        self.differences.append(Difference(subject, place, name, expected, found))

    def excuse(self, subject: Subject, reason: str) -> None:
        """Note that a subject may differ, and why."""
        self.excuses.append(Excuse(subject, reason))

    def count(self, place: Place, kind: str, number: int = 1) -> None:
        """Note that so many of a kind were compared in a place."""
        self.counts[place, kind] += number


def _text(value: object) -> str:
    if value is None:
        return NULL
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value))
    return str(value)
