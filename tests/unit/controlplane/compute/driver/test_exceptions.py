"""Every fault of an operation is an exception that an operator of Nova knows."""

from collections.abc import Callable
from typing import Any

import pytest
from nova import exception
from nova.compute import task_states, vm_states

from controlplane.compute.driver.driver import GatewayDriver
from tests.support.compute_inventory import ScriptedInventory
from tests.support.edge_side import ScriptedEdge
from tests.support.running_bridge import RunningBridge
from vsphere_gateway.v1 import operations_pb2 as pb

REASONS = [value for value in pb.FaultReason.values() if value]
START = {
    pb.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND: exception.InstanceNotFound,
    pb.FAULT_REASON_INVALID_POWER_STATE: exception.InstanceInvalidState,
    pb.FAULT_REASON_CONCURRENT_ACCESS: exception.InstanceInvalidState,
    pb.FAULT_REASON_EDGE_OFFLINE: exception.HypervisorUnavailable,
    pb.FAULT_REASON_VCENTER_UNAVAILABLE: exception.HypervisorUnavailable,
    pb.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE: exception.HypervisorUnavailable,
    pb.FAULT_REASON_CLUSTER_NOT_MANAGED: exception.HypervisorUnavailable,
    pb.FAULT_REASON_LEASE_LOST: exception.HypervisorUnavailable,
    pb.FAULT_REASON_NO_SPACE: exception.ComputeResourcesUnavailable,
    pb.FAULT_REASON_NO_RESOURCES: exception.ComputeResourcesUnavailable,
    pb.FAULT_REASON_TEMPLATE_NOT_FOUND: exception.ImageUnacceptable,
    pb.FAULT_REASON_UNIMPLEMENTED: NotImplementedError,
}
Call = Callable[[], Any]


def name(reason: Any) -> str:
    return str(pb.FaultReason.Name(reason)) if isinstance(reason, int) else ""


def raised(call: Call) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is asked
        call()
    return caught.value


@pytest.mark.parametrize("reason", REASONS, ids=name)
def test_start(driver: GatewayDriver, edge: ScriptedEdge, instance: Any, reason: Any) -> None:
    edge.faults["power_on"] = reason
    error = raised(lambda: driver.power_on(None, instance, None))
    assert type(error) is START.get(reason, exception.NovaException)
    if reason != pb.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND:
        assert f"{name(reason)} happened; see vCenter" in str(error)


@pytest.mark.parametrize("reason", REASONS, ids=name)
def test_stop(driver: GatewayDriver, edge: ScriptedEdge, instance: Any, reason: Any) -> None:
    edge.faults["power_off"] = reason
    gone = reason == pb.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND
    wanted = exception.InstanceNotFound if gone else exception.InstancePowerOffFailure
    assert type(raised(lambda: driver.power_off(instance))) is wanted


@pytest.mark.parametrize("reason", REASONS, ids=name)
def test_delete_raises_only_what_makes_nova_keep_the_ports(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any, reason: Any
) -> None:
    edge.faults["destroy"] = reason
    instance.task_state = task_states.DELETING
    if reason == pb.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND:
        driver.destroy(None, instance, [])
        return
    error = raised(lambda: driver.destroy(None, instance, []))
    assert type(error) is exception.InstancePowerOffFailure
    assert f"{name(reason)} happened" in str(error)


def test_delete_while_the_edge_is_away_keeps_the_ports(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.break_link()
    instance.task_state = task_states.DELETING
    error = raised(lambda: driver.destroy(None, instance, []))
    assert type(error) is exception.InstancePowerOffFailure
    assert "edge-1 is offline since 2026-01-01" in str(error)


@pytest.mark.parametrize("reason", REASONS, ids=name)
def test_diagnostics(driver: GatewayDriver, edge: ScriptedEdge, instance: Any, reason: Any) -> None:
    edge.faults["get_diagnostics"] = reason
    error = raised(lambda: driver.get_diagnostics(instance))
    wanted = START.get(reason, exception.NovaException)
    if wanted is exception.HypervisorUnavailable:
        wanted = exception.InstanceNotReady
    assert type(error) is wanted


def test_create_when_no_datastore_has_room_goes_to_the_next_host(
    driver: GatewayDriver, edge: ScriptedEdge, instance: Any
) -> None:
    edge.faults["clone_virtual_machine"] = pb.FAULT_REASON_NO_SPACE
    instance.vm_state = vm_states.BUILDING
    error = raised(lambda: driver.spawn(None, instance, None, [], None, {}, network_info=[]))
    assert type(error) is exception.ComputeResourcesUnavailable


def test_cluster_that_left_management(
    driver: GatewayDriver, inventory: ScriptedInventory, instance: Any
) -> None:
    inventory.managed = False
    error = raised(lambda: driver.power_on(None, instance, None))
    assert type(error) is exception.HypervisorUnavailable
    assert "no cluster under management" in str(error)


def test_control_plane_that_does_not_come_back(
    driver: GatewayDriver,
    control_plane: RunningBridge,
    instance: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controlplane.compute.driver.bridge.OUTAGE_SECONDS", 0.5)
    control_plane.stop()
    error = raised(lambda: driver.power_on(None, instance, None))
    assert isinstance(error, exception.HypervisorUnavailable)
    assert "vsg-controlplane" in str(error)
    assert type(raised(lambda: driver.power_off(instance))) is exception.InstancePowerOffFailure
    control_plane.start()
