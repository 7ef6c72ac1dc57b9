"""From a change in vCenter to the row in Nova, and from the driver to vCenter and back."""

import dataclasses
import statistics
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy

from controlplane.compute.driver.bridge import Bridge
from tools.bench.vsphere import Administrator
from tools.servers.mariadb import MariaDB
from tools.servers.state import ServerError
from vsphere_gateway.v1 import operations_pb2

POLL_SECONDS = 0.005
"""A quarter of the least figure; asking more often takes from what is measured."""
SECONDS = 60
OPERATION_SECONDS = 60.0
CELL = "nova_cell1"
STATE_OF = sqlalchemy.text("SELECT vm_state FROM instances WHERE uuid = :uuid AND deleted = 0")
"""By the only index that finds one row: by name, the clock keeps the database busy with scans."""
UUID_AND_HOST = sqlalchemy.text(
    "SELECT uuid, host FROM instances WHERE display_name = :name AND deleted = 0"
)
PROCESSORS = sqlalchemy.text(
    "SELECT display_name, vcpus FROM instances WHERE deleted = 0 AND host LIKE :host"
)
SERVERS = sqlalchemy.text("SELECT count(*) FROM instances WHERE deleted = 0 AND host LIKE :host")


@dataclasses.dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of many changes."""

    milliseconds: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.milliseconds)

    @property
    def percentile_99(self) -> float:
        """99 of 100 are not greater."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]


class Cell:
    """Nova's cell database, looked at from outside."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection

    def wait_for(self, server: str, vm_state: str) -> float:
        """Return when the server's row said so. Raises ``ServerError``."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if self._connection.execute(STATE_OF, {"uuid": server}).scalar() == vm_state:
                return time.monotonic()
            time.sleep(POLL_SECONDS)
        raise ServerError(f"{server} is not {vm_state} in Nova after {SECONDS} s")

    def place(self, name: str) -> tuple[str, str]:
        """Return a server's UUID and compute host."""
        found = self._connection.execute(UUID_AND_HOST, {"name": name}).one()
        return str(found[0]), str(found[1])

    def processors(self, host_pattern: str) -> dict[str, int]:
        """Return the processors by name of servers of hosts whose names are LIKE a pattern."""
        found = self._connection.execute(PROCESSORS, {"host": host_pattern})
        return {str(name): int(count) for name, count in found}

    def servers(self, host_pattern: str) -> int:
        """Return how many servers the compute hosts have whose names are LIKE a pattern."""
        return int(self._connection.execute(SERVERS, {"host": host_pattern}).scalar() or 0)


@contextmanager
def cell() -> Iterator[Cell]:
    """Open Nova's cell database."""
    engine = sqlalchemy.create_engine(MariaDB().url(CELL), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield Cell(connection)
    engine.dispose()


def power_changes(vcenter: Administrator, machines: Sequence[Any]) -> Latency:
    """Power machines off in turn; return the time to Nova's row.

    The clock starts before the call to vCenter.
    """
    with cell() as rows:
        return Latency([_milliseconds_to_row(vcenter, rows, machine) for machine in machines])


def power_changes_until(
    vcenter: Administrator, machines: Sequence[Any], until: threading.Event
) -> tuple[Latency, Latency]:
    """Power machines off in turn until an event; return the time to Nova's row, and the peer's.

    Every other change is told to a bare filter instead, as ``bare_changes`` does, so that both
    meet what else goes on.
    """
    ours, bare = [], []
    with cell() as rows:
        for one, other in zip(machines[::2], machines[1::2], strict=False):
            ours.append(_milliseconds_to_row(vcenter, rows, one))
            told = vcenter.seconds_until_told(other, "poweredOff", vcenter.power_off)
            bare.append(told * 1000)
            if until.is_set():
                break
    return Latency(ours), Latency(bare)


def _milliseconds_to_row(vcenter: Administrator, rows: Cell, machine: Any) -> float:
    server, _ = rows.place(machine.name)
    started = time.monotonic()
    vcenter.power_off(machine)
    return (rows.wait_for(server, "stopped") - started) * 1000


def bare_changes(vcenter: Administrator, machines: Sequence[Any]) -> Latency:
    """The peer: power machines on, and have vCenter tell it to a filter on that machine alone."""
    return Latency(
        [
            vcenter.seconds_until_told(machine, "poweredOn", vcenter.power_on) * 1000
            for machine in machines
        ]
    )


def new_machines(vcenter: Administrator, names: Sequence[str], beside: Any) -> Latency:
    """Make machines; return the times as ``power_changes`` does."""
    found = []
    with cell() as rows:
        for name in names:
            instance_uuid = str(uuid.uuid4())
            started = time.monotonic()
            vcenter.create(name, instance_uuid, beside)
            found.append((rows.wait_for(instance_uuid, "stopped") - started) * 1000)
    return Latency(found)


def stops(vcenter: Administrator, machines: Sequence[Any], socket: Path) -> tuple[Latency, Latency]:
    """Power each machine off as Nova's driver does, and once more as vSphere's own task.

    In turn, so that both meet the same noise. Returns ours and the bare task's.
    """
    ours, bare = [], []
    bridges: dict[str, Bridge] = {}
    with cell() as rows:
        for machine in machines:
            server, host = rows.place(machine.name)
            bridge = bridges.setdefault(host, Bridge(str(socket), host))
            started = time.monotonic()
            _power_off(bridge, server)
            ours.append((time.monotonic() - started) * 1000)
            vcenter.finish(vcenter.power_on(machine))
            started = time.monotonic()
            vcenter.finish(vcenter.power_off(machine))
            bare.append((time.monotonic() - started) * 1000)
            vcenter.finish(vcenter.power_on(machine))
    for bridge in bridges.values():
        bridge.close()
    return Latency(ours[1:]), Latency(bare[1:])  # the first one dials


def _power_off(bridge: Bridge, server: str) -> None:
    operation = operations_pb2.Operation(
        target=operations_pb2.VirtualMachineTarget(instance_uuid=server),
        power_off=operations_pb2.PowerOff(),
    )
    result = bridge.execute(operation, OPERATION_SECONDS, "", "")
    if result.status.code:
        raise ServerError(f"power off of {server}: {result.status.message}")
