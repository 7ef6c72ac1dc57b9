"""How the writer of allocations stops. No request is made."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from common.background import ThreadMonitor
from controlplane.domain.records import HostAllocations
from controlplane.openstack.placement.allocations import AllocationQueue
from controlplane.openstack.placement.client import PlacementClient
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.store.errors import DatabaseUnavailableError

SECONDS = 10.0
HOSTS = 4
TIMEOUT = 0.5


class Reads:
    """Reads of what hosts should hold, which hang until they are let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()

    def read(self) -> HostAllocations:
        self.begun.release()
        self.go_on.wait(SECONDS)
        raise DatabaseUnavailableError("let go")


@pytest.fixture
def reads() -> Iterator[Reads]:
    made = Reads()
    yield made
    made.go_on.set()


def queue_of(hosts: int, read: Callable[[], HostAllocations]) -> AllocationQueue:
    none = cast(PlacementClient, None), cast(ResourceProviders, None)
    queue = AllocationQueue(*none, ThreadMonitor())
    for number in range(hosts):
        queue.reconcile(f"host-{number}", read)
    return queue


def test_a_stop_waits_once_for_all_hosts_that_hang(reads: Reads) -> None:
    queue = queue_of(HOSTS, reads.read)
    for _ in range(HOSTS):
        assert reads.begun.acquire(timeout=SECONDS)
    begun = time.monotonic()
    queue.stop(TIMEOUT)
    assert time.monotonic() - begun < 2 * TIMEOUT


def test_what_comes_after_a_stop_starts_no_thread(reads: Reads) -> None:
    queue = queue_of(0, reads.read)
    queue.stop(TIMEOUT)
    queue.reconcile("late-host", reads.read)
    assert "allocations-late-host" not in {thread.name for thread in threading.enumerate()}
