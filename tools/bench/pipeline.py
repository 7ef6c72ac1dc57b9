"""What the control plane alone takes to apply inventory: generated messages into real MariaDB.

No simulator stands before it and no link between, so that its own limit shows. Run it as
``python -m tools.bench.pipeline --sizes 1000,10000``.
"""

import argparse
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import sqlalchemy
from rich.console import Console
from rich.table import Table

from controlplane.store import upstream_schema
from controlplane.store.database import Connection, Database
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.tables import CELL_MAPPINGS
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import InventoryStage
from tools.servers.lease import Lease
from tools.servers.mariadb import MariaDB
from vsphere_gateway.v1 import inventory_pb2, link_pb2

CLUSTERS = 10
CHANGES = 200
STORM_SECONDS = 20
STORM_RATE = 200
"""Changes a second."""
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table."""

    machines: int
    what: str
    value: float
    unit: str


def main() -> int:
    """Measure at each size and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.pipeline", description=__doc__)
    parser.add_argument("--sizes", default="1000", help="virtual machines, separated by commas")
    options = parser.parse_args()
    table = Table("VMs", "What", "Value", "Unit")
    server = MariaDB()
    with Lease("mariadb", server.start, server.stop):
        for size in (int(one) for one in options.sizes.split(",")):
            for one in measure(server, size):
                table.add_row(f"{one.machines:,}", one.what, f"{one.value:,.3g}", one.unit)
    Console().print(table)
    return 0


def measure(server: MariaDB, machines: int) -> list[Measured]:
    """Measure at one size."""
    found: list[Measured] = []

    def note(what: str, value: float, unit: str) -> None:
        found.append(Measured(machines, what, value, unit))

    with _stage(server) as stage:
        resident = psutil.Process().memory_info().rss
        site = GeneratedVCenter(clusters=CLUSTERS, machines=machines // CLUSTERS, hosts=8)
        generated = psutil.Process().memory_info().rss - resident
        edge = stage.edge(site)
        wall, cpu = _timed(edge.synchronise)
        note("first sync", wall, "s")
        note("first sync, processor of this process", cpu, "s")
        edge.close()
        note("pass with nothing changed", _timed(edge.synchronise)[0], "s")
        _latencies(note, "power change", [_power(site, edge, n) for n in range(CHANGES)])
        _latencies(note, "new VM", [_new(site, edge, n) for n in range(CHANGES // 4)])
        _storm(site, edge, note)
        _changes_during_first_sync(stage, site, edge, machines, note)
        resident = psutil.Process().memory_info().rss - generated
        note("resident memory without the generated site", resident / MIB, "MiB")
    return found


@contextmanager
def _stage(server: MariaDB) -> Iterator[InventoryStage]:
    names = {kind: f"bench_{kind.replace('-', '_')}" for kind in (*upstream_schema.KINDS, "own")}
    for name in names.values():
        server.drop_database(name)
    urls = {kind: server.create_database(name) for kind, name in names.items()}
    own = urls.pop("own")
    upstream_schema.create(urls)
    api, cell = Database(urls["nova-api"]), Database(urls["nova-cell"])
    mapping = sqlalchemy.insert(CELL_MAPPINGS).values(
        uuid="3c1d7a4e-0000-4000-8000-000000000001",
        name="cell1",
        database_connection=urls["nova-cell"],
        transport_url="none:///",
        disabled=False,
    )
    cell_id = api.run(lambda connection: _insert(connection, mapping))
    nova = NovaDatabases(api, cell, cell_id, "cell1", "none:///")
    stage = InventoryStage(nova, Database(urls["glance"]), own)
    stage.start()
    try:
        yield stage
    finally:
        stage.stop()
        for name in names.values():
            server.drop_database(name)


def _insert(connection: Connection, row: sqlalchemy.Insert) -> int:
    (key,) = connection.execute(row).inserted_primary_key or (0,)
    return int(key)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds on the wall and of the processor."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - cpu


def _power(site: GeneratedVCenter, edge: FeedEdge, number: int) -> float:
    state = inventory_pb2.POWER_STATE_ON if number % 2 else inventory_pb2.POWER_STATE_OFF
    moref = f"vm-{number // 2 + 1}"
    one = site.change_machine(moref, lambda machine: setattr(machine, "power_state", state))
    return _timed(lambda: edge.changes(one))[0]


def _new(site: GeneratedVCenter, edge: FeedEdge, number: int) -> float:
    one = site.add_machine(f"new-{number}")
    return _timed(lambda: edge.changes(one))[0]


def _latencies(note: Callable[[str, float, str], None], what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    note(f"{what}, median", ordered[len(ordered) // 2] * 1000, "ms")
    note(f"{what}, 99th percentile", ordered[int(len(ordered) * 0.99)] * 1000, "ms")


def _storm(site: GeneratedVCenter, edge: FeedEdge, note: Callable[[str, float, str], None]) -> None:
    """Change machines at a steady rate, as batches that coalesce while acks are away."""
    began, sent = time.monotonic(), 0
    while sent < STORM_SECONDS * STORM_RATE:
        due = min(int((time.monotonic() - began) * STORM_RATE), STORM_SECONDS * STORM_RATE) - sent
        if due <= 0:
            time.sleep(0.01)
            continue
        changed = {}
        for number in range(sent, sent + min(due, 200)):
            moref = f"vm-{number % 500 + 1}"
            changed[moref] = site.change_machine(moref, functools.partial(_resize, number % 60 + 1))
        sent += min(due, 200)
        edge.send_batch(link_pb2.LANE_CHANGES, list(changed.values()))
    behind = time.monotonic() - began - STORM_SECONDS
    note(f"storm of {STORM_RATE}/s for {STORM_SECONDS} s, behind at its end", behind, "s")


def _resize(cpus: int, machine: inventory_pb2.VirtualMachine) -> None:
    machine.cpus = cpus


def _changes_during_first_sync(
    stage: InventoryStage,
    site: GeneratedVCenter,
    edge: FeedEdge,
    machines: int,
    note: Callable[[str, float, str], None],
) -> None:
    """Let a new cluster's machines come while others change."""
    site.add_cluster(CLUSTERS + 1, hosts=8)
    for number in range(machines // CLUSTERS):
        site.add_machine(f"more-{number}", cluster=f"domain-c{CLUSTERS + 1}")
    fresh = [one for key, one in site.objects.items() if _is_fresh(key)]
    syncing = threading.Thread(target=edge.snapshot, args=(fresh,))
    syncing.start()
    seconds = []
    number = 0
    while syncing.is_alive():
        seconds.append(_power(site, edge, number))
        number += 1
    syncing.join()
    _latencies(note, "power change during a first sync", seconds)


def _is_fresh(key: str) -> bool:
    return f"-c{CLUSTERS + 1}" in key or f"host-{CLUSTERS + 1}-" in key or ":more-" in key


if __name__ == "__main__":
    sys.exit(main())
