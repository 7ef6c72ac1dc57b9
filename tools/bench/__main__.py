"""`make bench`: first sync, reconnect and change latency, each beside a peer."""

import argparse
import datetime
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from rich.console import Console

from tools.bench import figures, latency
from tools.bench.diagnostics import Observer
from tools.bench.figures import Figure
from tools.cloud.cloud import Cloud
from tools.demo.deployment import Deployment
from tools.progress import Steps
from tools.servers import golang, lease
from tools.servers.state import CHECKOUT, Port, ServerError, folder
from tools.servers.vcsim import Vcsim

PLACE = "bench"
PAGE = CHECKOUT / "docs" / "benchmarks.md"
DEPLOYMENT = Deployment(PLACE, Port.BENCH_GATEWAY, Port.BENCH_ADMIN, "vsphere_gateway_bench", PLACE)
PARITY_SECONDS = 600
WORKER_SECONDS = 600
CHANGES = 50
PROPERTIES = (
    *("name", "parent", "resourcePool", "runtime.host", "runtime.powerState"),
    *("runtime.connectionState", "runtime.bootTime", "config.instanceUuid", "config.uuid"),
    *("config.template", "config.guestId", "config.hardware.numCPU", "config.hardware.memoryMB"),
    *("config.hardware.device", "config.createDate", "config.files.vmPathName"),
)
NOTES = """\
- **first sync**: from the edge's start, Python included, to parity with every server in MariaDB.
  The peer reads 16 of the same properties of every virtual machine once and stores nothing.
- **restart**: the same with everything in the databases already.
- **power change**, **new VM**: from the return of govc to the committed row in Nova's cell
  database. The peer is what govc itself took to make the change.
- The simulator is patched (`tools/govmomi/simulator.patch`): as it comes, it copies every object of
  a filter for each change, and tells a change seconds late at 1,000 virtual machines. The patch
  changes nothing of what it tells. Tests and the demo use it as it comes.
- Placement's allocations follow after parity and the workers' own start is not counted.
"""


def main() -> int:
    """Run at each size; 0 when every figure was measured."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--sizes", default="1000", help="virtual machines, separated by commas")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        measured = _all([int(size) for size in options.sizes.split(",")], console)
    except ServerError as error:
        console.print(f"bench: {error}", markup=False, style="red")
        return 1
    figures.show(console, measured)
    figures.write(PAGE, measured, datetime.datetime.now(datetime.UTC), NOTES)
    console.print(f"written to {PAGE.relative_to(CHECKOUT)}")
    return 0


def _all(sizes: list[int], console: Console) -> list[Figure]:
    measured: list[Figure] = []
    with Steps(console) as steps:
        cloud = Cloud()
        with lease.Lease("cloud", lambda: cloud.up(steps), cloud.down):
            for size in sizes:
                with _simulator(size, steps) as vcenter:
                    measured.extend(_measure(size, vcenter, steps))
    return measured


@contextmanager
def _simulator(size: int, steps: Steps) -> Iterator[Vcsim]:
    clusters = max(1, min(10, size // 100))
    model = {"dc": 1, "cluster": clusters, "host": 4, "vm": size // clusters, "ds": 2, "pg": 1}
    vcenter = Vcsim(
        folder(f"{PLACE}/vcenter"),
        port=Port.BENCH_VCENTER.number,
        program=golang.QUICK_VCSIM,
        **model,
    )
    with steps.step(f"a vCenter with {size:,} virtual machines in {clusters} clusters"):
        vcenter.start()
    try:
        yield vcenter
    finally:
        vcenter.stop()


def _measure(size: int, vcenter: Vcsim, steps: Steps) -> Iterator[Figure]:
    DEPLOYMENT.configure(vcenter)
    DEPLOYMENT.control_plane.start()
    observer = Observer(DEPLOYMENT)
    try:
        with steps.step("govc collect, the peer"):
            peer = _govc_read(vcenter)
        with steps.step("first sync"):
            first = _edge_start_to_parity(observer)
        yield Figure(size, "first sync", first, "s", "govc collect", peer)
        yield from _memory(size)
        with steps.step("the workers' own start, which is not counted"):
            DEPLOYMENT.wait_for_workers(WORKER_SECONDS)
        with steps.step("restart of the edge"):
            DEPLOYMENT.edge.stop()
            again = _edge_start_to_parity(observer)
        yield Figure(size, "restart to parity", again, "s", "govc collect", peer)
        yield from _latency(size, vcenter, steps)
        with steps.step("taking everything out of OpenStack again"):
            DEPLOYMENT.leave(vcenter, PARITY_SECONDS)
    finally:
        observer.close()
        DEPLOYMENT.stop()


def _govc_read(vcenter: Vcsim) -> float:
    started = time.monotonic()
    vcenter.govc("collect", "-json", "-type", "m", "/", *PROPERTIES)
    return time.monotonic() - started


def _edge_start_to_parity(observer: Observer) -> float:
    before = time.time_ns()
    DEPLOYMENT.edge.start()
    edge = observer.wait_for_parity(before, PARITY_SECONDS)
    return (edge.parity_at.ToNanoseconds() - before) / 1e9


def _memory(size: int) -> Iterator[Figure]:
    for process in (DEPLOYMENT.edge, DEPLOYMENT.control_plane):
        resident = psutil.Process(process.pid).memory_info().rss / (1 << 20)
        yield Figure(size, f"{process.name} resident", resident, "MiB")


def _latency(size: int, vcenter: Vcsim, steps: Steps) -> Iterator[Figure]:
    names = [Path(path).name for path in vcenter.govc("find", "/", "-type", "m").split()]
    with steps.step(f"{CHANGES} power changes"):
        ours, govc = latency.power_changes(vcenter, names[:CHANGES])
    yield Figure(size, "power change, median", ours.median, "ms", "govc's own", govc.median)
    yield Figure(
        size, "power change, 99th percentile", ours.percentile_99, "ms", "govc's own",
        govc.percentile_99,
    )  # fmt: skip
    with steps.step(f"{CHANGES} new virtual machines"):
        flags = ("-ds", "LocalDS_0", "-cluster", "DC0_C0", "-net", "DC0_DVPG0")
        made = [f"bench-{number}" for number in range(CHANGES)]
        ours, govc = latency.new_machines(vcenter, made, *flags)
    yield Figure(size, "new VM, median", ours.median, "ms", "govc's own", govc.median)
    yield Figure(
        size, "new VM, 99th percentile", ours.percentile_99, "ms", "govc's own",
        govc.percentile_99,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
