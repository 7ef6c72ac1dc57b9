"""What the driver promises to Nova."""

import threading
from typing import Any

import pytest
from nova import exception
from nova.compute import power_state, provider_tree, task_states, vm_states

from controlplane.compute.driver.driver import GatewayDriver
from tests.support.compute_inventory import HOST, NODE_UUID, ScriptedInventory
from tests.support.edge_side import OFF, ON, SUSPENDED, ScriptedEdge, in_thread
from tests.support.running_bridge import SERVER, RunningBridge
from vsphere_gateway.v1 import operations_pb2

NODE = "domain-c1.6f6d8f53-0000-4000-8000-000000000001"


def actions(edge: ScriptedEdge) -> list[str]:
    return [one.WhichOneof("action") or "" for one in edge.received]


def test_stop_records_who_asked_and_returns_when_the_machine_is_off(
    driver: GatewayDriver,
    control_plane: RunningBridge,
    edge: ScriptedEdge,
    instance: Any,
    request_context: Any,
) -> None:
    driver.power_off(instance, timeout=60, retry_interval=10)
    assert edge.power[SERVER] == OFF
    operation = edge.await_arrival("power_off")
    assert operation.power_off.guest_grace.seconds == 60
    assert operation.target.reference.value == "vm-1"
    assert operation.cluster.value == "domain-c1"
    (row,) = control_plane.rows()
    assert (row.compute_host, row.request_id, row.project_id) == (HOST, "req-abc", "p1")


def test_live_migration_is_refused_with_what_leaves_the_server_as_it_is(
    driver: GatewayDriver, edge: ScriptedEdge, request_context: Any, instance: Any
) -> None:
    """The conductor puts the server into ERROR for anything that it does not expect here."""
    with pytest.raises(exception.MigrationPreCheckError, match="vMotion"):
        driver.check_can_live_migrate_destination(request_context, instance, {}, {}, False, False)
    assert edge.received == []


@pytest.mark.parametrize("task", [task_states.RESCUING, task_states.SHELVING])
def test_machine_runs_on_when_powering_off_is_only_a_step_of_what_is_not_offered(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any, task: str
) -> None:
    instance.task_state = task
    with pytest.raises(exception.NovaException, match=f"{task} is not offered"):
        driver.power_off(instance)
    assert edge.received == []


def test_the_next_worker_waits_until_this_one_has_taken_up_its_servers(
    driver: GatewayDriver, control_plane: RunningBridge
) -> None:
    """In nova-compute's order: the node's identity, its instances, then the first audit."""
    driver.get_nodenames_by_uuid()
    driver.list_instance_uuids()
    assert control_plane.started == []
    driver.get_available_nodes()
    assert control_plane.started == [HOST]


def test_state_right_after_an_operation_is_the_one_it_ended_with(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    driver.power_off(instance)
    assert driver.get_info(instance, use_cache=False).state == power_state.SHUTDOWN
    assert "get_state" not in actions(edge)
    edge.power[SERVER] = ON
    assert driver.get_info(instance, use_cache=False).state == power_state.RUNNING
    assert actions(edge).count("get_state") == 1


def test_cached_state_costs_no_round_trip_to_the_site(
    driver: GatewayDriver, edge: ScriptedEdge, inventory: ScriptedInventory, instance: Any
) -> None:
    inventory.power[SERVER] = SUSPENDED
    assert driver.get_info(instance).state == power_state.SUSPENDED
    assert edge.received == []


def test_fresh_state_falls_back_to_the_inventory_while_the_edge_is_away(
    driver: GatewayDriver, edge: ScriptedEdge, inventory: ScriptedInventory, instance: Any
) -> None:
    inventory.power[SERVER] = OFF
    edge.break_link()
    assert driver.get_info(instance, use_cache=False).state == power_state.SHUTDOWN


def test_state_is_nova_s_own_while_the_control_plane_is_away(
    driver: GatewayDriver, control_plane: RunningBridge, instance: Any
) -> None:
    control_plane.stop()
    assert driver.get_info(instance, use_cache=False).state == instance.power_state
    assert driver.get_info(instance).state == instance.power_state
    control_plane.start()


def test_machine_that_is_gone_is_the_only_error_of_get_info(
    driver: GatewayDriver, edge: ScriptedEdge, inventory: ScriptedInventory, instance: Any
) -> None:
    edge.power.clear()
    with pytest.raises(exception.InstanceNotFound):
        driver.get_info(instance, use_cache=False)
    assert driver.get_info(instance).state == power_state.RUNNING, "the inventory has it still"
    inventory.power.clear()
    assert not driver.instance_exists(instance)
    for fault in operations_pb2.FaultReason.values():
        if fault != operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND:
            inventory.power[SERVER] = ON
            edge.faults["get_state"] = fault
            assert driver.get_info(instance, use_cache=False).state == power_state.RUNNING


def test_a_worker_that_starts_asks_for_all_states_at_once(
    driver: GatewayDriver, edge: ScriptedEdge, inventory: ScriptedInventory, instance: Any
) -> None:
    driver.process_instances_at_startup(None, [instance])
    inventory.questions = 0
    for _ in range(2):
        assert driver.get_info(instance, use_cache=False).state == power_state.RUNNING
    assert (inventory.questions, edge.received) == (0, [])
    driver.get_available_resource(NODE)
    driver.get_info(instance, use_cache=False)
    assert actions(edge) == ["get_state"]


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_reboot(driver: GatewayDriver, edge: ScriptedEdge, instance: Any, kind: str) -> None:
    driver.reboot(None, instance, None, kind)
    operation = edge.await_arrival("reboot")
    assert operation.reboot.soft is (kind == "SOFT")
    assert bool(operation.reboot.guest_grace.seconds) is (kind == "SOFT")


def test_hard_reboot_of_a_machine_that_is_off_powers_it_on(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.power[SERVER] = OFF
    edge.faults["reboot"] = operations_pb2.FAULT_REASON_INVALID_POWER_STATE
    driver.reboot(None, instance, None, "HARD")
    assert edge.power[SERVER] == ON


def test_suspend_and_resume(driver: GatewayDriver, edge: ScriptedEdge, instance: Any) -> None:
    driver.suspend(None, instance)
    assert edge.power[SERVER] == SUSPENDED
    assert driver.get_info(instance, use_cache=False).state == power_state.SUSPENDED
    driver.resume(None, instance, None)
    assert edge.power[SERVER] == ON


def test_failed_suspend_leaves_the_server_its_state(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.faults["suspend"] = operations_pb2.FAULT_REASON_TASK_FAILED
    with pytest.raises(exception.InstanceFaultRollback) as caught:
        driver.suspend(None, instance)
    assert "suspend failed" in str(caught.value.inner_exception)


def spawn(driver: GatewayDriver, instance: Any, **changes: Any) -> None:
    arguments: dict[str, Any] = {"network_info": [], "block_device_info": {}} | changes
    instance.vm_state = vm_states.BUILDING
    driver.spawn(None, instance, None, [], None, {}, **arguments)


def test_server_is_created_as_a_clone_of_its_image_s_template(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.power.clear()
    spawn(driver, instance)
    clone = edge.await_arrival("clone_virtual_machine").clone_virtual_machine
    assert clone.template.value == "vm-9"
    assert clone.template_instance_uuid == "template-uuid"
    assert (clone.instance_uuid, clone.name) == (SERVER, "web-1")
    assert (clone.cpus, clone.memory_mb, clone.root_disk_gb) == (2, 2048, 20)
    assert clone.power_on
    assert clone.remove_nics
    assert driver.get_info(instance, use_cache=False).state == power_state.RUNNING


def test_image_whose_template_is_in_another_vcenter_is_refused(
    driver: GatewayDriver, edge: ScriptedEdge, inventory: ScriptedInventory, instance: Any
) -> None:
    inventory.template_vcenter = "another"
    with pytest.raises(exception.ImageUnacceptable, match="vCenter another"):
        spawn(driver, instance)
    assert edge.received == []


def test_image_without_a_template_is_refused(driver: GatewayDriver, instance: Any) -> None:
    instance.image_ref = "another image"
    with pytest.raises(exception.ImageUnacceptable, match="no template"):
        spawn(driver, instance)


def test_flavor_smaller_than_the_template_s_disk_is_refused(
    driver: GatewayDriver, instance: Any
) -> None:
    instance.flavor.root_gb = 5
    with pytest.raises(exception.FlavorDiskSmallerThanImage):
        spawn(driver, instance)


@pytest.mark.parametrize(
    "wish",
    [
        {"network_info": ["a port"]},
        {"block_device_info": {"block_device_mapping": ["a volume"]}},
        {"block_device_info": {"ephemerals": ["a disk"]}},
    ],
)
def test_what_a_clone_cannot_have_is_refused_before_anything_is_made(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any, wish: dict[str, Any]
) -> None:
    with pytest.raises(exception.BuildAbortException):
        spawn(driver, instance, **wish)
    assert edge.received == []


def test_delete_that_a_person_asked_for_destroys_and_is_recorded(
    driver: GatewayDriver, control_plane: RunningBridge, edge: ScriptedEdge, instance: Any
) -> None:
    instance.task_state = task_states.DELETING
    driver.destroy(None, instance, [])
    assert edge.power == {}
    assert control_plane.history.delete_recorded(SERVER)


def test_delete_of_a_machine_that_is_gone_succeeds(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.power.clear()
    instance.task_state = task_states.DELETING
    driver.destroy(None, instance, [])


@pytest.mark.parametrize(
    ("vm_state", "task_state"),
    [
        (vm_states.ACTIVE, task_states.REBUILDING),
        (vm_states.SHELVED, task_states.SHELVING_OFFLOADING),
        (vm_states.ACTIVE, task_states.RESIZE_MIGRATING),
        (vm_states.ACTIVE, None),
    ],
)
def test_destroy_for_any_other_reason_keeps_the_machine(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any, vm_state: str, task_state: str
) -> None:
    instance.vm_state, instance.task_state = vm_state, task_state
    with pytest.raises(exception.InstancePowerOffFailure, match="it is kept"):
        driver.destroy(None, instance, [])
    assert edge.received == []


def test_rebuild_is_refused_before_anything_is_touched(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    with pytest.raises(exception.InstanceFaultRollback):
        driver.rebuild(None, instance, image_meta=None)
    assert edge.received == []


def test_clone_of_a_failed_build_is_removed(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.power.clear()
    spawn(driver, instance)
    driver.destroy(None, instance, [])
    assert edge.power == {}


def test_failed_build_that_made_nothing_has_nothing_to_remove(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    instance.vm_state = vm_states.BUILDING
    driver.destroy(None, instance, [])
    assert edge.power == {SERVER: ON}


def test_boot_while_the_edge_is_away_goes_to_the_next_host(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.break_link()
    with pytest.raises(exception.ComputeResourcesUnavailable, match="edge-1 is offline"):
        spawn(driver, instance)
    driver.destroy(None, instance, [])  # Nova cleans up, and may then go elsewhere


def test_operation_survives_a_restart_of_the_control_plane(
    driver: GatewayDriver, control_plane: RunningBridge, edge: ScriptedEdge, instance: Any
) -> None:
    edge.hold = {"power_off"}
    call = in_thread(lambda: driver.power_off(instance) or "done")
    operation = edge.await_arrival("power_off")
    edge.accept(operation)
    edge.break_link()
    control_plane.stop()
    edge.execute(operation)
    control_plane.start()
    threading.Event().wait(0.5)
    edge.reconnect()
    assert call() == "done"
    assert edge.executed.count("power_off") == 1


def test_resources_are_the_cluster_s_real_totals(driver: GatewayDriver) -> None:
    assert driver.get_available_nodes() == [NODE]
    assert driver.get_nodenames_by_uuid() == {NODE_UUID: NODE}
    found = driver.get_available_resource(NODE)
    assert (found["uuid"], found["vcpus"], found["memory_mb"]) == (NODE_UUID, 16, 32768)
    assert (found["vcpus_used"], found["local_gb"]) == (40, 1000)


def test_overcommitted_cluster_s_provider_holds_what_runs_in_it(driver: GatewayDriver) -> None:
    tree = provider_tree.ProviderTree()
    tree.new_root(NODE, NODE_UUID)
    driver.update_provider_tree(tree, NODE)
    data = tree.data(NODE)
    assert data.inventory["MEMORY_MB"]["total"] == 32768
    assert data.inventory["MEMORY_MB"]["allocation_ratio"] * 32768 >= 40960
    assert data.inventory["VCPU"]["max_unit"] == 8
    assert data.inventory["VCPU"]["allocation_ratio"] == 4.0, "Nova's initial_cpu_allocation_ratio"
    assert "CUSTOM_VSG_VCENTER_1" in data.traits


def test_driver_is_not_ready_before_the_first_parity_and_never_says_the_node_is_gone(
    driver: GatewayDriver, inventory: ScriptedInventory, control_plane: RunningBridge
) -> None:
    inventory.totals.synchronised = False
    with pytest.raises(exception.VirtDriverNotReady):
        driver.get_available_nodes()
    inventory.totals.synchronised = True
    inventory.away = True
    with pytest.raises(exception.VirtDriverNotReady):
        driver.get_available_nodes()
    with pytest.raises(exception.VirtDriverNotReady):
        driver.list_instance_uuids()
    inventory.away = False
    control_plane.stop()
    with pytest.raises(exception.VirtDriverNotReady):
        driver.get_available_resource(NODE)
    control_plane.start()
    assert not driver.is_node_deleted(NODE)


def test_instances_are_listed_by_uuid(driver: GatewayDriver) -> None:
    assert driver.list_instance_uuids() == [SERVER]
    assert driver.get_num_instances() == 1


def test_diagnostics_in_both_forms(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    assert driver.get_instance_diagnostics(instance).state == "running"
    assert driver.get_diagnostics(instance)["power_state"] == "running"
