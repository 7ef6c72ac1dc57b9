"""Writers do not get into each other's way, or Nova's."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nova import objects

from controlplane.domain.records import Power, ServerChange, ServerRecord
from controlplane.store.nova.servers import NovaServers
from tests.support.server_samples import record

ROUNDS = 10


def test_threads_that_change_the_same_servers_in_any_order_all_succeed(
    servers: NovaServers, nova: Any
) -> None:
    batch = [record() for _ in range(20)]
    servers.apply(batch)
    states = [Power.SHUTDOWN, Power.RUNNING, Power.SUSPENDED, Power.SHUTDOWN]

    def change(number: int) -> None:
        ordered = batch if number % 2 else batch[::-1]
        for _ in range(ROUNDS):
            wanted: list[ServerRecord] = [
                dataclasses.replace(one, power=states[number]) for one in ordered
            ]
            outcomes = servers.apply(wanted)
            assert {one.change for one in outcomes} <= {ServerChange.NONE, ServerChange.UPDATED}

    with ThreadPoolExecutor(len(states)) as pool:
        list(pool.map(change, range(len(states))))
    servers.apply(batch)
    seen = objects.InstanceList.get_by_filters(nova, {"uuid": [one.uuid for one in batch]})
    assert {one.vm_state for one in seen} == {"active"}


def test_the_same_new_servers_from_two_threads_are_adopted_once(servers: NovaServers) -> None:
    batch = [record() for _ in range(20)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(servers.apply, [batch, batch[::-1]]))
    changes = [one.change for outcomes in results for one in outcomes]
    assert changes.count(ServerChange.ADOPTED) == 20
    assert changes.count(ServerChange.NONE) == 20


def test_a_task_that_nova_begins_in_the_meantime_is_respected(
    servers: NovaServers, nova: Any
) -> None:
    batch = [record() for _ in range(5)]
    servers.apply(batch)

    def nova_begins(one: ServerRecord) -> None:
        instance = objects.Instance.get_by_uuid(nova, one.uuid)
        instance.task_state = "rebooting"
        instance.save(expected_task_state=[None])

    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(lambda: [nova_begins(one) for one in batch])
        stopped = [dataclasses.replace(one, power=Power.SHUTDOWN) for one in batch]
        applied = pool.submit(servers.apply, stopped)
        outcomes = applied.result()
        begun.result()
    for one, outcome in zip(batch, outcomes, strict=True):
        after = objects.Instance.get_by_uuid(nova, one.uuid)
        assert after.task_state == "rebooting"
        expected = "active" if outcome.change is ServerChange.DEFERRED else "stopped"
        assert after.vm_state == expected
