"""Allocations of adopted servers on a real placement."""

import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from common.background import ThreadMonitor
from controlplane.domain.records import AllocationRecord, ComputeHostRecord, HostAllocations
from controlplane.openstack.placement.allocations import AllocationQueue
from controlplane.openstack.placement.client import PlacementClient, resources
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.store.errors import DatabaseUnavailableError, StatementRejectedError
from tests.support.placement_samples import allocation, client_for, cluster
from tests.support.waiting import eventually_true

SECONDS = 60


@pytest.fixture
def queue(client: PlacementClient, providers: ResourceProviders) -> Iterator[AllocationQueue]:
    made = AllocationQueue(client, providers, ThreadMonitor())
    yield made
    made.stop()


@pytest.fixture
def host(providers: ResourceProviders) -> ComputeHostRecord:
    made = cluster()
    providers.provision(made, disabled=True)
    return made


def submit(queue: AllocationQueue, *records: AllocationRecord) -> None:
    """Submit and wait until placement has answered."""
    written = threading.Event()
    queue.submit(records, written.set)
    assert written.wait(SECONDS)


def reconcile(
    queue: AllocationQueue, host: ComputeHostRecord, read: Callable[[], HostAllocations]
) -> None:
    """Have the host compared and wait until that is done."""
    reconciled = threading.Event()
    queue.reconcile(host.node_uuid, read, reconciled.set)
    assert reconciled.wait(SECONDS)


def held(client: PlacementClient, record: AllocationRecord) -> dict[str, int]:
    found = client.consumer_allocations(record.consumer_uuid)["allocations"]
    return {name: n for one in found.values() for name, n in one["resources"].items()}


def test_many_allocations_take_few_requests(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    records = [allocation(host) for _ in range(60)]
    submit(queue, *records)
    stored = client.provider_allocations(host.node_uuid)
    assert {uuid: one["resources"] for uuid, one in stored.items()} == {
        record.consumer_uuid: resources(record) for record in records
    }
    assert queue.backlog == 0
    assert client.consumer_allocations(records[0].consumer_uuid)["consumer_type"] == "INSTANCE"


def test_a_changed_server_changes_its_allocation(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    first = allocation(host)
    submit(queue, first)
    submit(queue, dataclasses.replace(first, vcpus=4, disk_gb=0))
    assert held(client, first) == {"VCPU": 4, "MEMORY_MB": 512}


def test_a_server_that_moved_holds_nothing_where_it_was(
    queue: AllocationQueue,
    client: PlacementClient,
    providers: ResourceProviders,
    host: ComputeHostRecord,
) -> None:
    other = cluster()
    providers.provision(other, disabled=True)
    first = allocation(host)
    submit(queue, first)
    submit(queue, dataclasses.replace(first, provider_uuid=other.node_uuid))
    assert client.provider_allocations(host.node_uuid) == {}
    assert list(client.provider_allocations(other.node_uuid)) == [first.consumer_uuid]


def test_one_impossible_server_does_not_hold_up_the_others(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    records = [allocation(host) for _ in range(15)]
    # Placement's columns hold no such amount, so no widening helps.
    records[7] = dataclasses.replace(records[7], memory_mb=2**40)
    submit(queue, *records)
    assert len(client.provider_allocations(host.node_uuid)) == 14
    assert list(queue.refused) == [records[7].consumer_uuid]
    submit(queue, dataclasses.replace(records[7], memory_mb=512))
    assert queue.refused == {}


def test_virtual_machines_beyond_the_capacity_widen_the_provider(
    queue: AllocationQueue, client: PlacementClient, providers: ResourceProviders
) -> None:
    small = cluster(cpus=4, largest_cpus=2)
    providers.provision(small, disabled=True)
    records = [allocation(small, vcpus=3) for _ in range(12)]
    submit(queue, *records)
    assert len(client.provider_allocations(small.node_uuid)) == 12
    inventory = client.inventories(small.node_uuid)["inventories"]["VCPU"]
    assert inventory["max_unit"] == 3
    assert 36 <= inventory["total"] * inventory["allocation_ratio"] < 37
    assert queue.refused == {}


def test_a_released_server_holds_nothing(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    first, second = allocation(host), allocation(host)
    submit(queue, first, second)
    queue.release([first.consumer_uuid])
    eventually_true(lambda: queue.backlog == 0, seconds=SECONDS)
    assert list(client.provider_allocations(host.node_uuid)) == [second.consumer_uuid]


def test_many_released_servers_of_several_clusters_hold_nothing(
    queue: AllocationQueue,
    client: PlacementClient,
    providers: ResourceProviders,
    host: ComputeHostRecord,
) -> None:
    other = cluster()
    providers.provision(other, disabled=True)
    records = [allocation(host) for _ in range(15)] + [allocation(other) for _ in range(15)]
    stays = allocation(other)
    submit(queue, *records, stays)
    unknown = str(uuid.uuid4())
    queue.release([unknown, *(record.consumer_uuid for record in records)])
    eventually_true(lambda: queue.backlog == 0, seconds=SECONDS)
    assert client.provider_allocations(host.node_uuid) == {}
    assert list(client.provider_allocations(other.node_uuid)) == [stays.consumer_uuid]


def test_reconciling_writes_only_what_differs(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    records = [allocation(host) for _ in range(5)]
    submit(queue, *records)
    before = client.provider_allocations(host.node_uuid)
    records[2] = dataclasses.replace(records[2], vcpus=2)
    missing = allocation(host)
    reconcile(queue, host, lambda: HostAllocations([*records, missing], frozenset()))
    after = client.provider_allocations(host.node_uuid)
    changed = {uuid for uuid, one in after.items() if before.get(uuid) != one}
    assert changed == {records[2].consumer_uuid, missing.consumer_uuid}


def test_reconciling_releases_what_an_earlier_process_did_not_come_to_release(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    stays, novas = allocation(host), allocation(host)
    ended = [allocation(host) for _ in range(15)]
    submit(queue, stays, novas, *ended)
    gone = frozenset((*(one.consumer_uuid for one in ended), str(uuid.uuid4())))
    reconcile(queue, host, lambda: HostAllocations([stays], gone))
    held_by = client.provider_allocations(host.node_uuid)
    assert held_by.keys() == {stays.consumer_uuid, novas.consumer_uuid}


def test_a_change_that_comes_while_it_is_read_what_a_cluster_should_hold_stays(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    first = allocation(host)
    submit(queue, first)
    changed = dataclasses.replace(first, vcpus=4)

    def read() -> HostAllocations:
        found = HostAllocations([first], frozenset())
        queue.submit([changed])
        return found

    reconcile(queue, host, read)
    eventually_true(lambda: queue.backlog == 0, seconds=SECONDS)
    assert held(client, first)["VCPU"] == 4


def test_what_a_cluster_should_hold_is_read_again_when_a_database_was_away(
    client: PlacementClient, providers: ResourceProviders, host: ComputeHostRecord
) -> None:
    pauses: list[float] = []

    def wait(ended: threading.Event, seconds: float) -> bool:
        pauses.append(seconds)
        return ended.is_set()

    queue, first = AllocationQueue(client, providers, ThreadMonitor(), wait), allocation(host)

    def read() -> HostAllocations:
        if len(pauses) < 2:
            raise DatabaseUnavailableError("away")
        return HostAllocations([first], frozenset())

    try:
        reconcile(queue, host, read)
    finally:
        queue.stop()
    assert pauses == [1.0, 2.0]
    assert list(client.provider_allocations(host.node_uuid)) == [first.consumer_uuid]


@pytest.mark.parametrize("error", [StatementRejectedError("Unknown column"), RuntimeError("?")])
def test_error_that_nobody_expected_turns_health_red_until_it_is_mended_and_loses_nothing(
    client: PlacementClient,
    providers: ResourceProviders,
    host: ComputeHostRecord,
    error: Exception,
) -> None:
    monitor, mended = ThreadMonitor(), threading.Event()
    queue, first = AllocationQueue(client, providers, monitor), allocation(host)
    reconciled = threading.Event()

    def read() -> HostAllocations:
        if not mended.is_set():
            raise error
        return HostAllocations([first], frozenset())

    try:
        queue.reconcile(host.node_uuid, read, reconciled.set)
        eventually_true(monitor.down, seconds=SECONDS)
        assert str(error) in monitor.down()[0].reason
        mended.set()
        assert reconciled.wait(SECONDS)
        eventually_true(lambda: not monitor.down(), seconds=SECONDS)
    finally:
        queue.stop()
    assert list(client.provider_allocations(host.node_uuid)) == [first.consumer_uuid]


def test_placement_away_delays_and_loses_nothing(
    placement_endpoint: str, client: PlacementClient, host: ComputeHostRecord
) -> None:
    class Flaky:
        """Placement behind a network that fails at first; the rest is the real one."""

        def __init__(self) -> None:
            self.failures = 3
            self._real = client_for(placement_endpoint)

        def __getattr__(self, name: str) -> object:
            if self.failures:
                self.failures -= 1
                return getattr(client_for("http://127.0.0.1:9"), name)
            return getattr(self._real, name)

    flaky = Flaky()
    waits: list[float] = []
    queue = AllocationQueue(
        flaky,  # type: ignore[arg-type]
        ResourceProviders(client),
        ThreadMonitor(),
        lambda _event, seconds: bool(waits.append(seconds)),
    )
    first = allocation(host)
    submit(queue, first)
    queue.stop()
    assert held(client, first) == resources(first)
    assert waits == [1.0, 2.0, 5.0]


def test_nova_writing_at_the_same_time_is_a_conflict_that_is_settled(
    queue: AllocationQueue, client: PlacementClient, host: ComputeHostRecord
) -> None:
    records = [allocation(host) for _ in range(20)]
    # Another writer, as Nova's scheduler would be, was first with one of them.
    client.set_allocations([dataclasses.replace(records[3], vcpus=7)], {})
    submit(queue, *records)
    assert held(client, records[3])["VCPU"] == 1
    assert len(client.provider_allocations(host.node_uuid)) == 20
