"""One unit of inventory and all that follows from it, before anything is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from common.references import key_of
from controlplane.domain.records import (
    ImageOutcome,
    ImageRecord,
    RemovalOutcome,
    ServerOutcome,
    ServerRecord,
)
from controlplane.domain.references import MACHINE_KINDS, kind_of, machine_of
from controlplane.store.own.objects import ObjectRow, ObjectStatus
from controlplane.store.own.quarantine import QuarantineReason
from controlplane.store.own.servers import ServerRow
from controlplane.store.own.unit import UnitRows
from vsphere_gateway.v1 import inventory_pb2, link_pb2

HASH_BYTES = 16
LONGEST_KEY = 128
NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Unit:
    """Objects and removals that are applied together."""

    epoch: int
    objects: tuple[inventory_pb2.InventoryObject, ...] = ()
    removals: tuple[link_pb2.ObjectRemoval, ...] = ()
    revisited: bool = False
    """The objects come from the gateway database: what follows from them is looked at once more."""

    def __len__(self) -> int:
        """How many objects and removals there are."""
        return len(self.objects) + len(self.removals)

    def only_key(self) -> str:
        """The key of the only object or removal; empty when there are more, or none."""
        references = [one.reference for one in self.objects]
        references += [one.reference for one in self.removals]
        return key_of(references[0]) if len(references) == 1 else ""

    def halves(self) -> Iterator["Unit"]:
        """Split in two, objects before removals."""
        entries = len(self) // 2
        objects = min(entries, len(self.objects))
        removals = entries - objects
        yield Unit(self.epoch, self.objects[:objects], self.removals[:removals], self.revisited)
        yield Unit(self.epoch, self.objects[objects:], self.removals[removals:], self.revisited)


@dataclass(frozen=True, slots=True)
class PlannedServer:
    """A virtual machine that is to be a server."""

    key: str
    record: ServerRecord
    instance_uuid: str
    derived: bool
    cluster_uuid: str
    before: ServerRow | None
    """Its binding as it was, in any state."""
    returning: bool
    """A deleted row may come back."""


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """A template that is to be an image."""

    key: str
    record: ImageRecord


@dataclass(frozen=True, slots=True)
class EndedServer:
    """A server whose virtual machine is gone or no longer managed."""

    row: ServerRow
    delete: bool
    """vCenter deleted the virtual machine; otherwise it lives on."""
    reason: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an object could not be applied, or not yet."""

    reason: QuarantineReason
    message: str
    name: str
    content_hash: bytes


@dataclass(slots=True)
class Plan:
    """What follows from a unit. The steps that were taken leave their outcome here."""

    vcenter_uuid: str
    unit: Unit
    now: datetime
    rows: dict[str, ObjectRow] = field(default_factory=dict)
    """To hold, by key."""
    kept: dict[str, tuple[ObjectStatus, int]] = field(default_factory=dict)
    """No longer reported, but kept: status and the removal's revision."""
    gone: dict[str, int] = field(default_factory=dict)
    """To hold no longer: the removal's revision."""
    servers: list[PlannedServer] = field(default_factory=list)
    images: list[PlannedImage] = field(default_factory=list)
    ended: list[EndedServer] = field(default_factory=list)
    transferred: list[ServerRow] = field(default_factory=list)
    """Servers that another virtual machine with the same instance UUID takes over."""
    images_gone: set[str] = field(default_factory=set)
    """Morefs of templates whose images are to go."""
    held_back: dict[str, Rejection] = field(default_factory=dict)
    """Held, and in quarantine."""
    refused: dict[str, Rejection] = field(default_factory=dict)
    """Not held: rejected (nacked), and in quarantine."""
    repeated: dict[str, int] = field(default_factory=dict)
    """Held already in this state: key and revision."""
    settled_claims: set[tuple[tuple[str, str], str]] = field(default_factory=set)
    """Newcomers, by vCenter and moref, and the server whose UUID they have, which they now took
    over or claim no longer."""
    to_confirm: set[str] = field(default_factory=set)
    """vCenters that are to confirm who has an instance UUID."""
    revisit: set[str] = field(default_factory=set)
    """To be looked at again after this."""
    elsewhere: set[tuple[str, str]] = field(default_factory=set)
    """The same, by vCenter and moref: newcomers whose conflict is settled."""
    postponed: set[str] = field(default_factory=set)
    """To be looked at again, a little later."""
    image_outcomes: list[ImageOutcome] | None = None
    server_outcomes: list[ServerOutcome] | None = None
    removal_outcomes: list[RemovalOutcome] | None = None
    written: UnitRows | None = None
    """What the gateway database holds of it, once it is committed."""

    def claims(self) -> list[str]:
        """The UUIDs that were claimed for this."""
        return [server.record.uuid for server in self.servers]


def unreadable_reason(key: str, one: inventory_pb2.InventoryObject) -> str:
    """Why an object cannot be held at all; empty when it can."""
    if not key or len(key) > LONGEST_KEY:
        return f"expected a reference of at most {LONGEST_KEY} characters"
    if not kind_of(one):
        return "it carries no kind of object that this version knows"
    if one.content_hash and len(one.content_hash) != HASH_BYTES:
        return f"expected a content hash of {HASH_BYTES} bytes, found {len(one.content_hash)}"
    return ""


def rejection(
    reason: QuarantineReason, message: str, one: inventory_pb2.InventoryObject
) -> Rejection:
    name = machine_of(one).name if kind_of(one) in MACHINE_KINDS else ""
    return Rejection(reason, message, name[:NAME_LENGTH], one.content_hash)


def no_instance_uuid(one: inventory_pb2.InventoryObject) -> Rejection:
    state = inventory_pb2.ConnectionState.Name(one.virtual_machine.connection_state)
    connection = state.removeprefix("CONNECTION_STATE_").lower()
    message = (
        f"vCenter gives no instance UUID for it (its connection is {connection}): it is adopted "
        "when vCenter can read its configuration; reconnect its host or datastore, or remove it "
        "from the inventory"
    )
    return rejection(QuarantineReason.NO_INSTANCE_UUID, message, one)
