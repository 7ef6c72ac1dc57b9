"""What is measured at one size, in its order."""

import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from tools.bench import latency, load
from tools.bench.diagnostics import Observer
from tools.bench.figures import Figure
from tools.bench.latency import Latency
from tools.bench.processes import (
    MIB,
    Processes,
    following_processor_seconds,
    link_bytes,
    processes,
    wait_until_at_rest,
)
from tools.bench.vsphere import Administrator, administrator
from tools.cloud.layout import SCRIPTS, Layout
from tools.demo.deployment import Deployment
from tools.progress import Steps
from tools.servers.state import Port, ServerError
from tools.servers.vcsim import Vcsim

DEPLOYMENT = Deployment(
    "bench", Port.BENCH_GATEWAY, Port.BENCH_ADMIN, "vsphere_gateway_bench", "bench"
)
START_SECONDS = 120
PARITY_SECONDS = 600
WORKER_SECONDS = 900
PEER_READS = 2
IDLE_SECONDS = 60.0
NOTHING_PURGED, PURGED = 0, 1
"""What nova-manage ends with."""
REST_PERCENT = 15.0
REST_SECONDS = 300.0
CHANGES = 100
STORM_RATE = 200.0
STORM_MACHINES = 400
CLUSTERS = 10
ALL = "DC0_C*"
ALL_BUT_ONE = "DC0_C[1-9]"
ONE = "DC0_C0"
STORMED = "DC0_C4"
PROPERTIES = (
    *("name", "parent", "resourcePool", "runtime.host", "runtime.powerState"),
    *("runtime.connectionState", "runtime.bootTime", "config.instanceUuid", "config.uuid"),
    *("config.template", "config.guestId", "config.hardware.numCPU", "config.hardware.memoryMB"),
    *("config.hardware.device", "config.createDate", "config.files.vmPathName"),
)
NOTES = """\
What was asked for and not reached, what was tried, and runs on other machines and slower hours:
[develop/benchmark-limits.md](develop/benchmark-limits.md).

## What the figures mean

- **first sync**: from the edge's start, Python included, to parity with every server in MariaDB;
  **from dialling** without Python's own start.
  The peer reads 16 of the same properties of every virtual machine once and stores nothing; the
  mean of two reads just before counts. **processor** lines say where the time goes.
- **restart to parity**: the same with everything in the databases already, and in the edge's cache
  of configurations. **redeployment to parity**: with an edge whose cache is empty, so that all is
  read again. **bytes**: what the edge's connection carried until parity, both ways, as the kernel
  counts it.
- **power change**, **new VM**: from before the call to vCenter to the committed row in Nova's cell
  database. The peer is a bare WaitForUpdatesEx on that one virtual machine and property.
- **during a first sync**: the same while a cluster with a tenth of the virtual machines comes under
  management; the bare filter's changes are made in turn with ours. That cluster left before, and
  what follows of its leaving (placement lets go of each server) is waited for.
- **storm**: so many reconfigurations a second; *behind* is the time from the last one until every
  row says what vCenter says.
- **power off, what the gateway adds**: by the driver's own line to the control plane (ledger, edge,
  vCenter's task and back) less the bare vSphere task, which is the peer.
- **idle**: share of one processor over a minute without any change, the polling pass included, when
  all that follows of the changes before is done.
- The simulator has `tools/govmomi/patches/speed.patch`: as it comes, it copies every object of
  a filter for each change, and tells a change seconds late at 1,000 virtual machines. The patch
  changes nothing of what it tells. Tests and the demo do without it. Its collector of garbage runs
  less often (`GOGC=400`): it took a quarter to a third of the simulator's processor time, of which
  a real vCenter takes nothing here, and hardly any of govc's own time, which waits for one answer
  after the other.
- Placement's allocations, notifications and the workers' own start follow after parity and are not
  counted in it: **after it** says how long it takes until Nova can act on every cluster, and what
  placement and the workers need for that. Both share the machine's processors with all the rest.
"""


def measure(size: int, vcenter: Vcsim, storm_seconds: float, steps: Steps) -> Iterator[Figure]:
    """Measure at one size; leaves nothing in OpenStack. Raises ``ServerError``."""
    DEPLOYMENT.stop()
    if _left_servers():
        with steps.step("taking out what a run that was broken off has left"):
            DEPLOYMENT.leave(vcenter, PARITY_SECONDS)
            DEPLOYMENT.stop()
    DEPLOYMENT.configure(vcenter, [ALL])
    DEPLOYMENT.lose_cache()
    DEPLOYMENT.control_plane.start()
    observer = Observer(DEPLOYMENT)
    try:
        observer.wait_for_gateway(START_SECONDS)
        peer, first_bytes = 0.0, 0
        for figure in _first_sync(size, vcenter, observer, steps):
            yield figure
            if figure.what == "first sync":
                peer = figure.peer_value
            if figure.what == "first sync, bytes":
                first_bytes = int(figure.value * MIB)
        yield from _until_enabled(size, steps)
        yield from _restart(size, observer, peer, first_bytes, steps)
        with administrator(vcenter) as person:
            yield from _latencies(size, person, steps)
            yield from _stops(size, person, steps)
            yield from _during_a_first_sync(size, vcenter, person, steps)
        if storm_seconds:
            yield from _storm(size, vcenter, storm_seconds, steps)
        yield from _memory_and_idleness(size, vcenter, steps)
        with steps.step("taking everything out of OpenStack again"):
            DEPLOYMENT.leave(vcenter, PARITY_SECONDS)
    finally:
        observer.close()
        DEPLOYMENT.stop()


def purge_deleted_servers() -> None:
    """Leave nothing of them in Nova: the next simulator's machines have the same UUIDs.

    A row that is there makes another first sync than one that is not; and the tests' own
    deployments know of no server that this one had. Raises ``ServerError``.
    """
    command = [str(SCRIPTS / "nova-manage"), "--config-file", str(Layout().nova_conf), "db"]
    options = ["archive_deleted_rows", "--all-cells", "--until-complete", "--purge"]
    said = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if said.returncode not in (NOTHING_PURGED, PURGED):
        raise ServerError(f"nova-manage {' '.join(options)}: {said.stderr or said.stdout}")


def _first_sync(size: int, vcenter: Vcsim, observer: Observer, steps: Steps) -> Iterator[Figure]:
    with steps.step(f"govc collect, the peer, {PEER_READS} times"):
        peer = statistics.mean(_govc_read(vcenter) for _ in range(PEER_READS))
    before = processes(DEPLOYMENT, vcenter).processor_seconds()
    with steps.step("first sync"):
        first, dialled = _edge_start_to_parity(observer)
        running = processes(DEPLOYMENT, vcenter)
        after = running.processor_seconds()
        carried = link_bytes(DEPLOYMENT)
    yield Figure(size, "first sync", first, "s", "govc collect", peer)
    yield Figure(size, "first sync, from dialling", dialled, "s", "govc collect", peer)
    for name, seconds in after.items():
        used = seconds - before.get(name, 0.0)
        yield Figure(size, f"first sync, processor of {name}", used, "s")
    yield Figure(size, "first sync, bytes", carried / MIB, "MiB")
    yield from _memory(size, running, " after the first sync")


def _until_enabled(size: int, steps: Steps) -> Iterator[Figure]:
    """What follows parity: allocations in placement, and the workers' own start."""
    before = following_processor_seconds(DEPLOYMENT)
    began = time.monotonic()
    with steps.step("until every compute service is enabled"):
        DEPLOYMENT.wait_for_workers(WORKER_SECONDS)
    taken = time.monotonic() - began
    yield Figure(size, "after it, until every compute service is enabled", taken, "s")
    for name, seconds in following_processor_seconds(DEPLOYMENT).items():
        used = seconds - before.get(name, 0.0)
        yield Figure(size, f"after it, processor of {name}", used, "s")
    with steps.step("until nothing follows any more"):
        wait_until_at_rest(REST_PERCENT, REST_SECONDS)


def _memory(size: int, running: Processes, when: str) -> Iterator[Figure]:
    for name in ("edge", "control plane"):
        yield Figure(size, f"{name} resident{when}", running.resident_mib(name), "MiB")


def _restart(
    size: int, observer: Observer, peer: float, first_bytes: int, steps: Steps
) -> Iterator[Figure]:
    with steps.step("restart of the edge"):
        DEPLOYMENT.edge.stop()
        again, _ = _edge_start_to_parity(observer)
        carried = link_bytes(DEPLOYMENT)
    yield Figure(size, "restart to parity", again, "s", "govc collect", peer)
    yield Figure(
        size, "restart to parity, bytes", carried / MIB, "MiB", "first sync", first_bytes / MIB
    )
    with steps.step("until placement has been compared with all of that"):
        wait_until_at_rest(REST_PERCENT, REST_SECONDS)
    with steps.step("a new edge in its place"):
        DEPLOYMENT.edge.stop()
        DEPLOYMENT.lose_cache()
        anew, _ = _edge_start_to_parity(observer)
    yield Figure(size, "redeployment to parity", anew, "s", "govc collect", peer)


def _latencies(size: int, person: Administrator, steps: Steps) -> Iterator[Figure]:
    machines = _some(person, "DC0_C1")
    with steps.step(f"{CHANGES} power changes"):
        ours = latency.power_changes(person, machines)
    with steps.step("the same, told by vCenter to a bare filter"):
        bare = latency.bare_changes(person, machines)
    yield from _two(size, "power change", ours, "bare WaitForUpdatesEx", bare)
    with steps.step(f"{CHANGES} new virtual machines"):
        names = [f"bench-{number}" for number in range(CHANGES)]
        made = latency.new_machines(person, names, machines[0])
    yield from _two(size, "new VM", made)


def _stops(size: int, person: Administrator, steps: Steps) -> Iterator[Figure]:
    with steps.step(f"{CHANGES} times power off, by the driver's line and bare"):
        ours, bare = latency.stops(person, _some(person, "DC0_C2"), DEPLOYMENT.socket)
    yield from _two(size, "power off by the driver", ours, "bare vSphere task", bare)
    added = (ours.median - bare.median, ours.percentile_99 - bare.percentile_99)
    yield Figure(size, "power off, what the gateway adds, median", added[0], "ms")
    yield Figure(size, "power off, what the gateway adds, 99th percentile", added[1], "ms")


def _during_a_first_sync(
    size: int, vcenter: Vcsim, person: Administrator, steps: Steps
) -> Iterator[Figure]:
    pattern = _hosts_of(ONE)
    with steps.step("one cluster leaves management"):
        DEPLOYMENT.manage(vcenter, [ALL_BUT_ONE])
        _wait_for_servers(pattern, 0)
    with steps.step("until nothing follows of that any more"):
        wait_until_at_rest(REST_PERCENT, REST_SECONDS)
    with steps.step("it comes back, and others change meanwhile"):
        synced = threading.Event()

        def wait() -> None:
            _wait_for_servers(pattern, size // CLUSTERS)
            synced.set()

        waiting = threading.Thread(target=wait)
        machines = _some(person, "DC0_C3", size // CLUSTERS)
        DEPLOYMENT.manage(vcenter, [ALL])
        waiting.start()
        ours, bare = latency.power_changes_until(person, machines, synced)
        waiting.join()
    what = "power change during a first sync"
    yield from _two(size, what, ours, "bare WaitForUpdatesEx", bare)


def _storm(size: int, vcenter: Vcsim, seconds: float, steps: Steps) -> Iterator[Figure]:
    with administrator(vcenter) as person:
        names = [one.name for one in person.machines(STORMED)[:STORM_MACHINES]]
    with steps.step(f"a storm of {STORM_RATE:.0f} changes a second for {seconds:.0f} s"):
        storm = load.storm(vcenter, names, _hosts_of(STORMED), STORM_RATE, seconds)
    yield Figure(size, "storm, changes a second that vCenter took", storm.rate, "/s")
    yield Figure(size, "storm, behind after the last change", storm.recovery_seconds, "s")


def _memory_and_idleness(size: int, vcenter: Vcsim, steps: Steps) -> Iterator[Figure]:
    running = processes(DEPLOYMENT, vcenter)
    yield from _memory(size, running, " at the end")
    with steps.step("until all that follows of the changes is done, notifications above all"):
        wait_until_at_rest(REST_PERCENT, REST_SECONDS)
    with steps.step("a quiet minute"):
        idle = running.idle_percent(IDLE_SECONDS)
    for name in ("edge", "control plane"):
        yield Figure(size, f"{name} idle", idle[name], "%")


def _two(
    size: int, what: str, ours: Latency, peer: str = "", theirs: Latency | None = None
) -> Iterator[Figure]:
    median, percentile = (theirs.median, theirs.percentile_99) if theirs else (0.0, 0.0)
    yield Figure(size, f"{what}, median", ours.median, "ms", peer, median)
    yield Figure(size, f"{what}, 99th percentile", ours.percentile_99, "ms", peer, percentile)


def _some(person: Administrator, cluster: str, most: int = CHANGES) -> list[Any]:
    return person.machines(cluster)[:most]


def _govc_read(vcenter: Vcsim) -> float:
    started = time.monotonic()
    vcenter.govc("collect", "-json", "-type", "m", "/", *PROPERTIES)
    return time.monotonic() - started


def _edge_start_to_parity(observer: Observer) -> tuple[float, float]:
    """Return the seconds since the process was started, and since it began to dial."""
    before = time.time_ns()
    DEPLOYMENT.edge.start()
    edge = observer.wait_for_parity(before, PARITY_SECONDS)
    parity = edge.parity_at.ToNanoseconds()
    return (parity - before) / 1e9, (parity - edge.epoch) / 1e9


def _left_servers() -> int:
    with latency.cell() as rows:
        return rows.servers("dc0-c%")


def _hosts_of(cluster: str) -> str:
    """Return what the name of a cluster's compute host is LIKE."""
    return f"{cluster.lower().replace('_', '-')}-%"


def _wait_for_servers(host_pattern: str, count: int) -> None:
    deadline = time.monotonic() + PARITY_SECONDS
    with latency.cell() as rows:
        while rows.servers(host_pattern) != count:
            if time.monotonic() > deadline:
                raise ServerError(f"not {count} servers on {host_pattern} in {PARITY_SECONDS} s")
            time.sleep(0.05)
