"""Resource providers of managed clusters on a real placement."""

import pytest

from controlplane.openstack.placement.client import PlacementClient, PlacementRefusedError
from controlplane.openstack.placement.providers import DISABLED_TRAIT, ResourceProviders
from tests.support.placement_samples import allocation, cluster


def test_a_new_cluster_has_inventory_traits_and_is_kept_from_the_scheduler(
    client: PlacementClient, providers: ResourceProviders
) -> None:
    record = cluster()
    providers.provision(record, disabled=True)
    found = client.provider(record.node_uuid)
    assert found is not None
    assert found["name"] == record.node
    inventories = client.inventories(record.node_uuid)["inventories"]
    assert {name: one["total"] for name, one in inventories.items()} == {
        "VCPU": 64,
        "MEMORY_MB": 262144,
        "DISK_GB": 10240,
    }
    traits, _ = client.traits(record.node_uuid)
    assert traits == {"CUSTOM_VSG_VCENTER_A", DISABLED_TRAIT}


def test_an_overcommitted_cluster_has_room_for_what_runs_in_it(
    client: PlacementClient, providers: ResourceProviders
) -> None:
    record = cluster(cpus=8, cpus_used=30, largest_cpus=16)
    providers.provision(record, disabled=True)
    inventory = client.inventories(record.node_uuid)["inventories"]["VCPU"]
    assert inventory["allocation_ratio"] * inventory["total"] >= 30
    assert inventory["max_unit"] == 16


def test_provisioning_again_changes_nothing(
    client: PlacementClient, providers: ResourceProviders
) -> None:
    record = cluster()
    providers.provision(record, disabled=True)
    before = client.provider(record.node_uuid)
    providers.provision(record, disabled=True)
    assert client.provider(record.node_uuid) == before


def test_what_nova_and_operators_added_stays(
    client: PlacementClient, providers: ResourceProviders
) -> None:
    record = cluster()
    providers.provision(record, disabled=True)
    traits, generation = client.traits(record.node_uuid)
    client.create_trait("CUSTOM_GOLD")
    client.set_traits(record.node_uuid, traits | {"CUSTOM_GOLD", "COMPUTE_NODE"}, generation)
    found = client.inventories(record.node_uuid)
    found["inventories"]["VCPU"]["allocation_ratio"] = 4.0
    client.set_inventories(
        record.node_uuid, found["inventories"], found["resource_provider_generation"]
    )
    providers.provision(record, disabled=False)
    assert client.traits(record.node_uuid)[0] == {
        "CUSTOM_GOLD",
        "COMPUTE_NODE",
        "CUSTOM_VSG_VCENTER_A",
    }
    assert client.inventories(record.node_uuid)["inventories"]["VCPU"]["allocation_ratio"] == 4.0


def test_disabling_and_enabling_moves_one_trait(
    client: PlacementClient, providers: ResourceProviders
) -> None:
    record = cluster()
    providers.provision(record, disabled=False)
    providers.set_disabled(record.node_uuid, True)
    assert DISABLED_TRAIT in client.traits(record.node_uuid)[0]
    providers.set_disabled(record.node_uuid, False)
    assert client.traits(record.node_uuid)[0] == {"CUSTOM_VSG_VCENTER_A"}


def test_a_removed_cluster_has_no_provider_and_comes_back_with_its_uuid(
    client: PlacementClient, providers: ResourceProviders
) -> None:
    record = cluster()
    providers.provision(record, disabled=True)
    providers.remove(record.node_uuid)
    providers.remove(record.node_uuid)
    assert client.provider(record.node_uuid) is None
    providers.provision(record, disabled=True)
    assert client.provider(record.node_uuid) is not None


def test_a_removed_cluster_takes_along_what_its_ended_servers_still_hold(
    client: PlacementClient, providers: ResourceProviders
) -> None:
    record = cluster()
    providers.provision(record, disabled=True)
    ended, lives = allocation(record), allocation(record)
    client.set_allocations([ended, lives], {})
    with pytest.raises(PlacementRefusedError):
        providers.remove(record.node_uuid, [ended.consumer_uuid])
    assert list(client.provider_allocations(record.node_uuid)) == [lives.consumer_uuid]
    providers.remove(record.node_uuid, [ended.consumer_uuid, lives.consumer_uuid])
    assert client.provider(record.node_uuid) is None
