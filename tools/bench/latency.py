"""From a change in vCenter to the committed row in Nova."""

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy

from tools.servers.mariadb import MariaDB
from tools.servers.state import ServerError
from tools.servers.vcsim import Vcsim

POLL_SECONDS = 0.002
SECONDS = 30
CELL = "nova_cell1"
STATE_OF = sqlalchemy.text(
    "SELECT vm_state FROM instances WHERE display_name = :name AND deleted = 0"
)
STATES = {"off": "stopped", "on": "active"}


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


def power_changes(vcenter: Vcsim, names: Sequence[str]) -> tuple[Latency, Latency]:
    """Power each machine off; return the time to Nova's row, and what govc itself took.

    The clock starts when govc returns, which is after the vCenter task has ended; what govc took
    is the peer: the time in which the person at vCenter saw it happen.
    """
    ours, govc = [], []
    with _cell() as cell:
        for name in names:
            started = time.monotonic()
            vcenter.govc("vm.power", "-off", name)
            returned = time.monotonic()
            committed = _wait_for(cell, name, STATES["off"])
            ours.append((committed - returned) * 1000)
            govc.append((returned - started) * 1000)
    return Latency(ours), Latency(govc)


def new_machines(vcenter: Vcsim, names: Sequence[str], *flags: str) -> tuple[Latency, Latency]:
    """Make machines; return the times as ``power_changes`` does."""
    ours, govc = [], []
    with _cell() as cell:
        for name in names:
            started = time.monotonic()
            vcenter.govc("vm.create", "-on=false", *flags, name)
            returned = time.monotonic()
            committed = _wait_for(cell, name, STATES["off"])
            ours.append((committed - returned) * 1000)
            govc.append((returned - started) * 1000)
    return Latency(ours), Latency(govc)


@contextmanager
def _cell() -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(MariaDB().url(CELL), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _wait_for(cell: sqlalchemy.Connection, name: str, vm_state: str) -> float:
    """Return when the row said so. Raises ``ServerError``."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if cell.execute(STATE_OF, {"name": name}).scalar() == vm_state:
            return time.monotonic()
        time.sleep(POLL_SECONDS)
    raise ServerError(f"{name} is not {vm_state} in Nova after {SECONDS} s")
