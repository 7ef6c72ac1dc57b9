"""What the edge reports of vCenter's inventory: what is managed, and what has changed."""

from typing import Any

import pytest
from pyVmomi import vim

from common.references import key_of
from edge.config import ManagedSettings
from edge.interfaces import Managed
from edge.managed import ManagedScope
from edge.vcenter.client.answers import ObjectProperties, parse_objects, parse_updates
from edge.vcenter.client.property_specs import VIRTUAL_MACHINE
from edge.vcenter.collector.attributes import Attributes
from edge.vcenter.collector.inventory_cache import ChangeSet, InventoryCache
from edge.vcenter.collector.machines import Appliances, Serializer
from edge.vcenter.collector.topology import Topology
from tests.support.vsphere_answers import array, change, changed, content, update_answer
from vsphere_gateway.v1 import inventory_pb2, link_pb2

UNMANAGED = link_pb2.REMOVAL_REASON_UNMANAGED
ROOT, DATACENTER = vim.Folder("group-d1"), vim.Datacenter("datacenter-2")
MACHINES, STORES = vim.Folder("group-v3"), vim.Folder("group-s4")
GROUPS, CLUSTERS = vim.Folder("group-n5"), vim.Folder("group-h6")
CLUSTER, OTHER = vim.ClusterComputeResource("domain-c7"), vim.ClusterComputeResource("domain-c8")
POOL, OTHER_POOL = vim.ResourcePool("resgroup-9"), vim.ResourcePool("resgroup-10")
HOST, OTHER_HOST = vim.HostSystem("host-11"), vim.HostSystem("host-12")
STORE, OTHER_STORE = vim.Datastore("datastore-13"), vim.Datastore("datastore-14")
GROUP = vim.dvs.DistributedVirtualPortgroup("dvportgroup-15")
SWITCH = vim.dvs.VmwareDistributedVirtualSwitch("dvs-16")
OTHER_NET = vim.Network("network-17")
VM = vim.VirtualMachine("vm-7")
KEY = "VirtualMachine:vm-7"
SECOND = vim.VirtualMachine("vm-8")
TENANTS = vim.Folder("group-v30")


def structure() -> list[tuple[Any, dict[str, Any]]]:
    def cluster(name: str, host: Any, pool: Any, store: Any, net: Any) -> dict[str, Any]:
        return {
            "name": name,
            "parent": CLUSTERS,
            "host": array("vim.HostSystem", [host]),
            "resourcePool": pool,
            "datastore": array("vim.Datastore", [store]),
            "network": array("vim.Network", [net]),
        }

    return [
        (ROOT, {"name": "Datacenters"}),
        (DATACENTER, {"name": "dc1", "parent": ROOT}),
        (MACHINES, {"name": "vm", "parent": DATACENTER}),
        (STORES, {"name": "datastore", "parent": DATACENTER}),
        (GROUPS, {"name": "network", "parent": DATACENTER}),
        (CLUSTERS, {"name": "host", "parent": DATACENTER}),
        (CLUSTER, cluster("prod", HOST, POOL, STORE, GROUP)),
        (OTHER, cluster("private", OTHER_HOST, OTHER_POOL, OTHER_STORE, OTHER_NET)),
        (POOL, {"name": "Resources", "parent": CLUSTER, "owner": CLUSTER}),
        (OTHER_POOL, {"name": "Resources", "parent": OTHER, "owner": OTHER}),
        (HOST, {"name": "esx1", "parent": CLUSTER}),
        (OTHER_HOST, {"name": "esx2", "parent": OTHER}),
        (STORE, {"name": "san", "parent": STORES}),
        (OTHER_STORE, {"name": "other", "parent": STORES}),
        (SWITCH, {"name": "dvs", "parent": GROUPS, "uuid": "50 1d"}),
        (
            GROUP,
            {
                "name": "vlan-1",
                "parent": GROUPS,
                "key": "dvportgroup-15",
                "config.distributedVirtualSwitch": SWITCH,
            },
        ),
        (OTHER_NET, {"name": "other", "parent": GROUPS}),
    ]


def machine(**changes: Any) -> dict[str, Any]:
    card = vim.vm.device.VirtualVmxnet3(
        key=4000,
        macAddress="00:50:56:00:00:01",
        backing=vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(
            port=vim.dvs.PortConnection(switchUuid="50 1d", portgroupKey="dvportgroup-15")
        ),
    )
    values = {
        "name": "web",
        "parent": MACHINES,
        "resourcePool": POOL,
        "runtime.host": HOST,
        "datastore": array("vim.Datastore", [STORE]),
        "runtime.powerState": "poweredOn",
        "config.template": False,
        "config.changeVersion": "1",
        "config.instanceUuid": "5000c29a-0000-0000-0000-000000000020",
        "config.uuid": "42370d4e-0a0b-0c0d-0e0f-101112131415",
        "config.hardware.device": array("vim.vm.device.VirtualDevice", [card]),
    }
    return values | {name.replace("__", "."): value for name, value in changes.items()}


class Reported:
    """A cache with everything that it has reported."""

    def __init__(self, managed: Managed, appliances: Appliances) -> None:
        topology = Topology(managed.manages_cluster)
        self.cache = InventoryCache(Serializer(topology, managed, appliances))
        self.objects: dict[str, inventory_pb2.InventoryObject] = {}
        self.removals: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}

    def announce(self, managed_object: Any, values: dict[str, Any]) -> None:
        for found in parse_objects(content(managed_object, values)):
            self.cache.apply_update(found)

    def read(self, managed_object: Any, values: dict[str, Any]) -> None:
        for found in parse_objects(content(managed_object, values)):
            self.cache.apply_read(found, VIRTUAL_MACHINE.all_paths)

    def update(self, *objects: str) -> None:
        for found in parse_updates(update_answer(*objects)):
            self.cache.apply_update(found)

    def report(self) -> ChangeSet:
        """Keep what the cache reports; return the change set."""
        changes = self.cache.collect_changes()
        for update in (changes.structure, self.cache.report_machines(changes.ready)):
            for state in update.objects:
                self.objects[key_of(state.reference)] = state
                self.unreadable.pop(key_of(state.reference), None)
            for removal in update.removals:
                self.objects.pop(key_of(removal.reference), None)
                self.removals[key_of(removal.reference)] = removal.reason
            for each in update.unreadable:
                self.unreadable[key_of(each.reference)] = each.reason
        return changes

    def machine(self) -> inventory_pb2.VirtualMachine:
        return self.objects[KEY].virtual_machine


def reported(
    managed: Managed = ManagedSettings(("prod",)),  # noqa: B008 - it is frozen
    appliances: Appliances = Appliances(),  # noqa: B008 - it is frozen
    **changes: Any,
) -> Reported:
    made = Reported(managed, appliances)
    for managed_object, values in structure():
        made.announce(managed_object, values)
    made.read(VM, machine(**changes))
    made.report()
    return made


def test_only_the_managed_part_and_the_way_to_it_are_reported() -> None:
    assert {key.partition(":")[2] for key in reported().objects} == {
        *("group-d1", "datacenter-2", "group-v3", "group-s4", "group-n5", "group-h6"),
        *("domain-c7", "resgroup-9", "host-11", "datastore-13", "dvportgroup-15", "dvs-16"),
        "vm-7",
    }


def test_machine_has_its_cluster_and_its_network_by_reference() -> None:
    shown = reported().machine()
    assert shown.cluster.value == "domain-c7"
    assert shown.nics[0].network.value == "dvportgroup-15"
    assert shown.nics[0].portgroup_key == ""


def test_port_group_that_is_not_visible_keeps_its_key() -> None:
    seen = reported()
    seen.cache.remove("DistributedVirtualPortgroup:dvportgroup-15")
    seen.report()
    assert not seen.machine().nics[0].HasField("network")
    assert seen.machine().nics[0].portgroup_key == "dvportgroup-15"


def test_machine_without_a_pool_is_placed_by_its_host() -> None:
    assert reported(resourcePool=None).machine().cluster.value == "domain-c7"


def test_machine_that_nobody_can_place_is_not_reported_before_somebody_can() -> None:
    seen = reported(resourcePool=vim.ResourcePool("resgroup-99"), runtime__host=None)
    assert KEY not in seen.objects
    seen.announce(
        vim.ResourcePool("resgroup-99"), {"name": "late", "parent": POOL, "owner": CLUSTER}
    )
    assert seen.report().unread == [KEY]


def test_machine_that_cannot_be_placed_any_more_stays_what_it_was() -> None:
    """In the middle of a vMotion a virtual machine may be nowhere."""
    seen = reported()
    seen.update(changed(change("resourcePool", operation="remove"), change("runtime.host")))
    seen.report()
    assert KEY in seen.objects
    assert seen.removals == {}


def test_changed_configuration_is_read_again_and_nothing_else_is() -> None:
    seen = reported()
    seen.update(changed(change("name", "renamed")))
    changes = seen.report()
    assert (changes.details, changes.unread) == ([], [])
    assert seen.machine().name == "renamed"
    seen.update(changed(change("config.changeVersion", "2")))
    assert seen.report().details == [KEY]


def test_changed_power_is_reported_at_once_and_then_what_it_connected_is_read() -> None:
    seen = reported()
    seen.update(changed(change("runtime.powerState", "poweredOff")))
    changes = seen.report()
    assert (changes.ready, changes.details) == ([KEY], [KEY])
    assert seen.machine().power_state == inventory_pb2.POWER_STATE_OFF
    seen.update(changed(change("name", "renamed")))
    assert seen.report().details == [KEY], "until it was read"
    seen.cache.apply_read(ObjectProperties(KEY), ())
    seen.update(changed(change("name", "again")))
    assert seen.report().details == []


def test_unchanged_objects_are_not_reported_again() -> None:
    seen = reported()
    for managed_object, values in structure():
        seen.announce(managed_object, values)
    seen.announce(VM, machine())
    changes = seen.cache.collect_changes()
    assert not changes.structure.objects
    assert not seen.cache.report_machines(changes.ready).objects


def test_machine_that_is_being_made_waits_for_its_configuration() -> None:
    seen = reported()
    seen.update(
        changed(change("name", "clone"), kind="enter", key="VirtualMachine:vm-21").replace(
            "</objectSet>",
            "<changeSet><name>runtime.host</name><op>assign</op>"
            '<val type="HostSystem">host-11</val></changeSet></objectSet>',
        )
    )
    changes = seen.report()
    assert "VirtualMachine:vm-21" not in changes.details + changes.unread
    assert seen.unreadable == {}
    seen.update(changed(change("config.changeVersion", "1"), key="VirtualMachine:vm-21"))
    assert seen.report().details == ["VirtualMachine:vm-21"]


def test_unreadable_machine_is_reported_once_and_read_again_when_it_changes() -> None:
    seen = reported(config__instanceUuid=None)
    assert "config.instanceUuid" in seen.unreadable[KEY]
    assert KEY not in seen.objects
    assert seen.cache.has_problem(KEY)
    seen.unreadable.clear()
    seen.update(changed(change("name", "web-2")))
    seen.report()
    assert seen.unreadable == {}
    seen.read(VM, machine())
    seen.report()
    assert seen.machine().instance_uuid


def test_unreadable_datastore_stops_nothing_else() -> None:
    seen = reported()
    seen.announce(STORE, {"summary.capacity": "huge"})
    seen.report()
    assert "summary.capacity" in seen.unreadable["Datastore:datastore-13"]
    assert KEY in seen.objects
    assert seen.cache.has_problem("Datastore:datastore-13")


def test_unreadable_object_of_another_cluster_is_not_reported() -> None:
    seen = reported()
    seen.announce(OTHER_STORE, {"summary.capacity": "huge"})
    seen.report()
    assert seen.unreadable == {}


def test_cluster_that_is_renamed_away_takes_everything_with_it() -> None:
    seen = reported()
    seen.announce(CLUSTER, {"name": "secret"})
    seen.report()
    assert seen.objects == {}
    assert set(seen.removals.values()) == {UNMANAGED}
    seen.announce(CLUSTER, {"name": "prod"})
    assert seen.report().unread == [KEY]


def test_machine_of_an_unlisted_cluster_leaves_nothing_but_its_place_in_memory() -> None:
    seen = reported(resourcePool=OTHER_POOL, runtime__host=OTHER_HOST)
    assert seen.cache._machines[KEY].state == b""
    seen.update(changed(change("runtime.powerState", "poweredOff")))
    seen.report()
    assert KEY not in seen.objects


def test_template_shows_nothing_of_what_is_not_managed() -> None:
    seen = reported(
        config__template=True,
        resourcePool=None,
        runtime__host=OTHER_HOST,
        datastore=array("vim.Datastore", [OTHER_STORE, STORE]),
    )
    template = seen.objects[KEY].template
    assert [each.value for each in template.datastores] == ["datastore-13"]
    assert not template.HasField("host")
    assert not template.HasField("cluster")


def test_template_on_a_datastore_that_is_not_managed_is_not_reported() -> None:
    seen = reported(config__template=True, datastore=array("vim.Datastore", [OTHER_STORE]))
    assert KEY not in seen.objects


def test_folder_is_reported_with_the_first_machine_in_it_and_taken_back_with_the_last() -> None:
    seen = reported()
    seen.announce(vim.Folder("group-v30"), {"name": "tenants", "parent": MACHINES})
    seen.report()
    assert "Folder:group-v30" not in seen.objects
    seen.announce(VM, {"parent": vim.Folder("group-v30")})
    seen.report()
    assert "Folder:group-v30" in seen.objects
    seen.announce(VM, {"parent": MACHINES})
    seen.report()
    assert seen.removals == {"Folder:group-v30": UNMANAGED}


@pytest.fixture
def tenants() -> Reported:
    """Two machines, of which the second is in a folder of its own."""
    seen = reported()
    seen.announce(TENANTS, {"name": "tenants", "parent": MACHINES})
    seen.read(SECOND, machine(name="db", parent=TENANTS))
    seen.report()
    assert "Folder:group-v30" in seen.objects
    return seen


def test_folder_stays_while_one_machine_is_left_in_it(tenants: Reported) -> None:
    tenants.announce(VM, {"parent": TENANTS})
    tenants.report()
    tenants.announce(SECOND, {"parent": MACHINES})
    tenants.report()
    assert tenants.removals == {}


def test_folder_goes_with_the_machine_that_is_deleted(tenants: Reported) -> None:
    tenants.cache.remove("VirtualMachine:vm-8")
    tenants.report()
    assert tenants.removals == {"Folder:group-v30": UNMANAGED}


def test_folder_that_only_a_read_showed_is_reported_with_the_next_change_set(
    tenants: Reported,
) -> None:
    tenants.read(SECOND, machine(name="db", parent=MACHINES))
    tenants.cache.report_machines(["VirtualMachine:vm-8"])
    tenants.report()
    assert tenants.removals == {"Folder:group-v30": UNMANAGED}


def test_another_list_of_clusters_reports_no_machine_that_stays_managed() -> None:
    scope = ManagedScope(ManagedSettings(("prod",)))
    seen = reported(scope)
    scope.replace(ManagedSettings(("prod", "private")))
    seen.cache.rescope()
    changes = seen.report()
    assert changes.has_new_clusters
    assert changes.ready == []


def test_another_list_of_protected_names_protects_at_once() -> None:
    scope = ManagedScope(ManagedSettings(("prod",)))
    seen = reported(scope)
    assert not seen.machine().protected_by_site
    for names in (("web",), (), ("web",)):
        scope.replace(ManagedSettings(("prod",), read_only_names=names))
    seen.cache.rescope()
    seen.report()
    assert seen.machine().protected_by_site
    scope.replace(ManagedSettings(("prod",)))
    seen.cache.rescope()
    seen.report()
    assert not seen.machine().protected_by_site


@pytest.mark.parametrize(
    "machine_uuid",
    [
        "42370d4e-0a0b-0c0d-0e0f-101112131415",
        # The same as firmware with the newer byte order shows it inside the guest.
        "4e0d3742-0b0a-0d0c-0e0f-101112131415",
        "4E0D3742-0B0A-0D0C-0E0F-101112131415",
    ],
)
def test_the_edges_own_machine_is_protected(machine_uuid: str) -> None:
    assert reported(appliances=Appliances(machine_uuid=machine_uuid)).machine().protected_by_site


@pytest.mark.parametrize(
    ("appliances", "protected"),
    [
        (Appliances(vcenter_hostname="VC.example.com"), True),
        (Appliances(vcenter_addresses=frozenset({"192.0.2.5"})), True),
        (Appliances(vcenter_addresses=frozenset({"192.0.2.6"})), False),
        (Appliances(vcenter_hostname="vc"), False),
        (Appliances(), False),
    ],
)
def test_vcenters_own_machine_is_protected(appliances: Appliances, protected: bool) -> None:
    net = vim.vm.GuestInfo.NicInfo(deviceConfigId=4000, connected=True, ipAddress=["192.0.2.5"])
    seen = reported(
        appliances=appliances,
        guest__hostName="vc.example.com",
        guest__net=array("vim.vm.GuestInfo.NicInfo", [net]),
    )
    assert seen.machine().protected_by_site == protected


@pytest.mark.parametrize(
    ("names", "folders", "protected"),
    [
        (("web",), (), True),
        (("w?b*",), (), True),
        (("db*",), (), False),
        ((), ("/dc1/vm",), True),
        ((), ("dc1/vm/",), True),
        ((), ("/dc2/*",), False),
    ],
)
def test_names_and_folders_of_the_sites_list_are_protected(
    names: tuple[str, ...], folders: tuple[str, ...], protected: bool
) -> None:
    managed = ManagedSettings(("prod",), read_only_names=names, read_only_folders=folders)
    assert reported(managed).machine().protected_by_site == protected


def test_custom_attributes_get_names_and_unknown_ones_are_left_out() -> None:
    string = vim.CustomFieldsManager.StringValue
    seen = reported(
        customValue=array(
            "vim.CustomFieldsManager.Value",
            [string(key=3, value="z"), string(key=1, value="a"), string(key=2, value="?")],
        )
    )
    assert not seen.machine().custom_attributes
    seen.cache.apply_attributes(Attributes({"1": "zone", "3": "app"}, {KEY: ("stage:prod",)}))
    seen.report()
    shown = seen.machine()
    assert [(each.name, each.value) for each in shown.custom_attributes] == [
        ("app", "z"),
        ("zone", "a"),
    ]
    assert list(shown.tags) == ["stage:prod"]


def test_polling_pass_finds_what_differs_and_nothing_else() -> None:
    seen = reported()

    def differs(managed_object: Any, values: dict[str, Any]) -> bool:
        (found,) = (
            seen.cache.differs(each) for each in parse_objects(content(managed_object, values))
        )
        return found

    same = machine()
    assert not differs(VM, same)
    assert differs(VM, same | {"name": "other"})
    assert differs(VM, same | {"config.template": True})
    assert differs(VM, same | {"parent": CLUSTERS})
    assert differs(VM, same | {"config.changeVersion": "2"})
    assert differs(vim.VirtualMachine("vm-99"), same)
    assert not differs(STORE, {"name": "san", "parent": STORES})
    assert differs(STORE, {"name": "renamed", "parent": STORES})
    assert differs(vim.Datastore("datastore-99"), {"name": "new", "parent": STORES})
