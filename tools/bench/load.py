"""A storm of changes in vCenter at a steady rate, and whether all of it has arrived."""

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

from tools.bench.latency import Cell, cell
from tools.bench.vsphere import administrator
from tools.servers.state import ServerError
from tools.servers.vcsim import Vcsim

THREADS = 4
"""Administrators at once; one alone waits for vCenter's answers."""
MOST_PROCESSORS = 8
RECOVERY_SECONDS = 300
POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class Storm:
    """What came of it."""

    rate: float
    """Changes a second that vCenter took."""
    changes: int
    recovery_seconds: float
    """From the last change until every row in Nova says what vCenter says."""


def storm(
    vcenter: Vcsim, names: Sequence[str], host_pattern: str, rate: float, seconds: float
) -> Storm:
    """Change processors of one host's machines, each in its turn, for so many seconds.

    Raises ``ServerError`` when something is lost.
    """
    wanted: dict[str, int] = {}
    counts: list[int] = []
    started = time.monotonic()
    parts = [
        threading.Thread(
            target=_change,
            args=(vcenter, names[at::THREADS], rate / THREADS, seconds, wanted, counts),
        )
        for at in range(THREADS)
    ]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    took = time.monotonic() - started
    with cell() as rows:
        return Storm(sum(counts) / took, sum(counts), _recovery(rows, host_pattern, wanted))


def _change(
    vcenter: Vcsim,
    names: Sequence[str],
    rate: float,
    seconds: float,
    wanted: dict[str, int],
    counts: list[int],
) -> None:
    """Change machines that no other thread changes; note the last state of each, and how many."""
    with administrator(vcenter) as person:
        machines: dict[str, Any] = {name: person.machine(name) for name in names}
        started, done = time.monotonic(), 0
        while (passed := time.monotonic() - started) < seconds:
            if done > passed * rate:
                time.sleep(done / rate - passed)
            name = names[done % len(names)]
            processors = 1 + (done // len(names) + done) % MOST_PROCESSORS
            person.resize(machines[name], processors)
            wanted[name] = processors
            done += 1
        counts.append(done)


def _recovery(rows: Cell, host_pattern: str, wanted: dict[str, int]) -> float:
    started = time.monotonic()
    while time.monotonic() - started < RECOVERY_SECONDS:
        found = rows.processors(host_pattern)
        if all(found.get(name) == processors for name, processors in wanted.items()):
            return time.monotonic() - started
        time.sleep(POLL_SECONDS)
    lost = sorted(name for name, processors in wanted.items() if found.get(name) != processors)
    raise ServerError(f"lost after {RECOVERY_SECONDS} s: {', '.join(lost[:10])}")
