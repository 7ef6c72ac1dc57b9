"""What this edge would report, as tables for a person: `vsg-edge inventory`."""

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from common.references import Key, key_of
from edge.config import ManagedSettings
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.collector import VCenterCollector
from vsphere_gateway.v1 import inventory_pb2

_GIB: Final = 1 << 30

Cell = str | int | bool | list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One kind of objects."""

    name: str
    """Plural, for example ``hosts``."""
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


@dataclasses.dataclass(slots=True)
class InventoryReport:
    """One full read of the managed part of a vCenter."""

    vcenter: inventory_pb2.VCenter
    clusters: dict[str, bool]
    """Every cluster that vCenter shows, by name, and whether it is managed. For the site only."""
    objects: dict[Key, inventory_pb2.InventoryObject] = dataclasses.field(default_factory=dict)
    unreadable: dict[Key, str] = dataclasses.field(default_factory=dict)

    def sections(self) -> list[Section]:
        """The tables, each sorted by name."""
        return [
            *(self._section(kind) for kind in _KINDS),
            Section(
                "unreadable",
                ("object", "reason"),
                [(key, reason) for key, reason in sorted(self.unreadable.items())],
            ),
        ]

    def name_of(self, reference: inventory_pb2.ObjectReference) -> str:
        """Name of an object that was reported, empty for one that was not."""
        state = self.objects.get(key_of(reference))
        return str(_body(state).name) if state is not None else ""

    def _section(self, kind: "_Kind") -> Section:
        rows = [
            (*(cell(self, _body(state)) for _, cell in kind.columns), state.reference.value)
            for state in self.objects.values()
            if state.WhichOneof("body") == kind.body
        ]
        columns = (*(title for title, _ in kind.columns), "reference")
        return Section(kind.name, columns, sorted(rows, key=lambda row: (str(row[0]), row[-1])))


def read_report(
    session: VCenterSession, managed: ManagedSettings, machine_uuid: str = ""
) -> InventoryReport:
    """Read everything once; the session must be connected. Raises ``VCenterError``."""
    collector = VCenterCollector(session, managed, machine_uuid)
    report = InventoryReport(session.vcenter(), {})
    for update in collector.read_once(threading.Event()):
        for state in update.objects:
            report.objects[key_of(state.reference)] = state
        for unread in update.unreadable:
            report.unreadable[key_of(unread.reference)] = unread.reason
    report.clusters = collector.clusters()
    return report


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    body: str
    columns: tuple[tuple[str, Callable[[InventoryReport, Any], Cell]], ...]


def _body(state: inventory_pb2.InventoryObject) -> Any:
    return getattr(state, state.WhichOneof("body") or "folder")


def _name(report: InventoryReport, body: Any) -> str:
    return str(body.name)


def _field(name: str) -> Callable[[InventoryReport, Any], Cell]:
    def cell(report: InventoryReport, body: Any) -> Cell:
        value: Cell = getattr(body, name)
        return value

    return cell


def _gib(name: str) -> Callable[[InventoryReport, Any], Cell]:
    return lambda report, body: int(getattr(body, name)) // _GIB


def _related(name: str) -> Callable[[InventoryReport, Any], Cell]:
    return lambda report, body: report.name_of(getattr(body, name))


def _count(name: str) -> Callable[[InventoryReport, Any], Cell]:
    return lambda report, body: len(getattr(body, name))


def _enum(name: str, enum: Any, prefix: str) -> Callable[[InventoryReport, Any], Cell]:
    return lambda report, body: (
        enum.Name(getattr(body, name)).removeprefix(prefix).lower().replace("_", " ")
    )


def _disk_gib(report: InventoryReport, machine: inventory_pb2.VirtualMachine) -> int:
    return sum(disk.capacity_bytes for disk in machine.disks) // _GIB


def _addresses(report: InventoryReport, machine: inventory_pb2.VirtualMachine) -> list[str]:
    return [address for nic in machine.nics for address in nic.ip_addresses]


def _networks(report: InventoryReport, machine: inventory_pb2.VirtualMachine) -> list[str]:
    names: Iterable[str] = (
        report.name_of(nic.network) or nic.portgroup_key for nic in machine.nics
    )
    return [name for name in names if name]


_POWER = _enum("power_state", inventory_pb2.PowerState, "POWER_STATE_")
_CONNECTION = _enum("connection_state", inventory_pb2.ConnectionState, "CONNECTION_STATE_")

_KINDS: Final = (
    _Kind(
        "clusters",
        "cluster",
        (
            ("name", _name),
            ("hosts", _count("hosts")),
            ("datastores", _count("datastores")),
            ("networks", _count("networks")),
            ("drs", _field("drs_enabled")),
            ("ha", _field("ha_enabled")),
        ),
    ),
    _Kind(
        "hosts",
        "host",
        (
            ("name", _name),
            ("cluster", _related("cluster")),
            ("threads", _field("cpu_threads")),
            ("memory_gib", _gib("memory_bytes")),
            ("version", _field("esxi_version")),
            ("state", _CONNECTION),
            ("maintenance", _field("in_maintenance_mode")),
        ),
    ),
    _Kind(
        "virtual_machines",
        "virtual_machine",
        (
            ("name", _name),
            ("cluster", _related("cluster")),
            ("power", _POWER),
            ("cpus", _field("cpus")),
            ("memory_mib", _field("memory_mb")),
            ("disk_gib", _disk_gib),
            ("networks", _networks),
            ("addresses", _addresses),
            ("protected", _field("protected_by_site")),
            ("instance_uuid", _field("instance_uuid")),
        ),
    ),
    _Kind(
        "templates",
        "template",
        (
            ("name", _name),
            ("cpus", _field("cpus")),
            ("memory_mib", _field("memory_mb")),
            ("disk_gib", _disk_gib),
            ("guest", _field("guest_full_name")),
            ("instance_uuid", _field("instance_uuid")),
        ),
    ),
    _Kind(
        "datastores",
        "datastore",
        (
            ("name", _name),
            ("type", _field("type")),
            ("capacity_gib", _gib("capacity_bytes")),
            ("free_gib", _gib("free_bytes")),
            ("accessible", _field("accessible")),
            ("shared", _field("shared")),
        ),
    ),
    _Kind(
        "networks",
        "network",
        (
            ("name", _name),
            ("switch", _related("distributed_switch")),
            ("vlan", _field("vlan_id")),
            ("uplink", _field("uplink")),
        ),
    ),
)
