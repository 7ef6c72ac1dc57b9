"""Nova's compute driver for one managed cluster: every call goes to the control plane.

Nothing here talks to vCenter. What Nova polls is answered from the inventory that the control plane
holds; what Nova does becomes one operation, recorded, sent to the edge and waited for. The methods
follow nova/virt/driver.py:ComputeDriver.
"""

from typing import Any

import nova.conf
from nova import exception
from nova.compute import task_states, vm_states
from nova.virt import driver, hardware
from oslo_context import context as oslo_context
from oslo_log import log as logging

from controlplane.compute.driver import clone, diagnostics, options, resources
from controlplane.compute.driver.bridge import Bridge
from controlplane.compute.driver.exceptions import (
    BridgeUnavailable,
    Failure,
    exception_for,
    failure_of,
)
from controlplane.compute.driver.states import POWER_OFF_TASKS, RecentStates, nova_power_state
from vsphere_gateway.v1 import compute_pb2, operations_pb2

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
options.register(CONF)


class GatewayDriver(driver.ComputeDriver):
    """One cluster as a compute host with one node."""

    capabilities = driver.ComputeDriver.capabilities | {"supports_image_type_vmdk": True}

    def __init__(self, virtapi: Any) -> None:
        super().__init__(virtapi)
        self._bridge = Bridge(CONF.vsphere_gateway.socket, CONF.host)
        self._recent = RecentStates()
        self._at_start: dict[str, int] = {}

    # Life of the worker

    def init_host(self, host: str) -> None:
        """Do nothing: the control plane is asked when something is needed."""

    def cleanup_host(self, host: str) -> None:
        """Close the connection to the control plane."""
        self._bridge.close()

    def process_instances_at_startup(self, context: Any, instances: Any) -> Any:
        """Read all power states at once: Nova is about to ask for each instance twice."""
        try:
            names = self._bridge.instances()
        except BridgeUnavailable as error:
            LOG.warning("power states cannot be read at the start: %s", error)
            return instances
        self._at_start = {
            name.instance_uuid: nova_power_state(name.power_state)
            for name in names
            if name.power_state
        }
        return instances

    # Resources

    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        """The one node. Raises ``VirtDriverNotReady`` before the first sync has ended.

        Nova first calls this once it has loaded its instances (nova/service.py:start).
        """
        return [self._resources(started=True).hypervisor_hostname]

    def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:
        """The one node by UUID. Raises ``VirtDriverNotReady``."""
        found = self._resources()
        return {found.compute_node_uuid: found.hypervisor_hostname}

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        """The cluster's real totals."""
        self._at_start = {}  # Nova has started
        return resources.available_resource(self._resources())

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        """Set inventories and traits of the cluster's resource provider."""
        found = self._resources()
        stored = provider_tree.data(nodename).inventory
        ratios = {
            key: CONF[f"{key}_allocation_ratio"] or CONF[f"initial_{key}_allocation_ratio"]
            for key in resources.RATIOS.values()
        }
        wanted = resources.provider_inventories(found, stored, ratios)
        provider_tree.update_inventory(nodename, wanted)
        provider_tree.add_traits(nodename, *found.traits)

    def get_host_ip_addr(self) -> str:
        """The address that migrations would use."""
        return str(CONF.my_ip)

    def get_volume_connector(self, instance: Any) -> dict[str, str]:
        """Who would attach a volume; the ESXi hosts do, not this machine."""
        return {
            "ip": CONF.my_block_storage_ip,
            "host": CONF.host,
            "instance": instance.uuid,
        }

    def _resources(self, *, started: bool = False) -> compute_pb2.GetClusterResourcesResponse:
        try:
            found = self._bridge.resources(started=started)
        except BridgeUnavailable as error:
            LOG.warning("resources cannot be read: %s", error)
            raise exception.VirtDriverNotReady() from error
        resources.check_ready(found)
        return found

    # Instances

    def list_instances(self) -> list[str]:
        """The names of the virtual machines. Raises ``VirtDriverNotReady``."""
        return [one.name for one in self._instances()]

    def list_instance_uuids(self) -> list[str]:
        """The UUIDs of the servers. Raises ``VirtDriverNotReady``."""
        return [one.instance_uuid for one in self._instances()]

    def _instances(self) -> list[compute_pb2.InstanceName]:
        try:
            return self._bridge.instances()
        except BridgeUnavailable as error:
            raise exception.VirtDriverNotReady() from error

    def get_info(self, instance: Any, use_cache: bool = True) -> hardware.InstanceInfo:
        """The power state; raises nothing but ``InstanceNotFound``, and never waits long.

        A fresh state is the one that an operation has just ended with, else what the edge reads,
        else what the control plane has stored, else what Nova itself has.
        """
        if not use_cache:
            recent = self._recent.take(instance.uuid)
            if recent is None:
                recent = self._at_start.get(instance.uuid)
            if recent is not None:
                return hardware.InstanceInfo(state=recent)
        try:
            found = self._bridge.instance(instance.uuid, use_cache=use_cache)
        except BridgeUnavailable as error:
            LOG.warning("power state taken from Nova: %s", error, instance=instance)
            return hardware.InstanceInfo(state=instance.power_state)
        if not found.found:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        return hardware.InstanceInfo(state=nova_power_state(found.virtual_machine.power_state))

    def instance_exists(self, instance: Any) -> bool:
        """Whether the virtual machine is known."""
        try:
            self.get_info(instance)
        except exception.InstanceNotFound:
            return False
        return True

    # Create and delete

    def spawn(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: Any,
        allocations: Any,
        network_info: Any = None,
        block_device_info: Any = None,
        power_on: bool = True,
        accel_info: Any = None,
    ) -> None:
        """Clone the template behind the image."""
        clone.check_request(instance, network_info, block_device_info, injected_files)
        template = self._bridge.template(instance.image_ref)
        _, _, vcenter_uuid = self._resources().hypervisor_hostname.partition(".")
        clone.check_template(instance.image_ref, template, vcenter_uuid, instance.flavor.root_gb)
        wanted = clone.clone_request(
            instance, template, CONF.vsphere_gateway.datastores, power_on=power_on
        )
        operation = operations_pb2.Operation(clone_virtual_machine=wanted)
        self._run(instance, operation, CONF.vsphere_gateway.clone_timeout)

    def destroy(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        """Destroy the virtual machine; one that is gone already is no error.

        Raises ``InstancePowerOffFailure`` for any other failure, and when nobody asked for a
        delete: Nova also calls this for a rebuild, a shelve and a migration.
        """
        asked = _delete_was_asked(instance)
        if not asked and instance.vm_state != vm_states.BUILDING:
            raise exception.InstancePowerOffFailure(
                reason="Nova asked to destroy the virtual machine although nobody asked for the "
                "deletion of the server; it is kept"
            )
        operation = operations_pb2.Operation()
        operation.destroy.SetInParent()
        result = self._execute(instance, operation, asked=asked)
        failure = failure_of("destroy", instance.uuid, result)
        if failure and not _nothing_to_destroy(failure, asked=asked):
            raise exception_for(failure)

    def cleanup(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: destroy leaves nothing behind on this machine."""

    def rebuild(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse; by default Nova would destroy the virtual machine."""
        refusal = exception.NovaException(
            "a server in vCenter cannot be rebuilt: create a new one from the image"
        )
        raise exception.InstanceFaultRollback(inner_exception=refusal)

    def check_can_live_migrate_destination(self, context: Any, instance: Any, *args: Any) -> None:
        """Refuse with the exception after which Nova leaves the server as it is, not in ERROR."""
        raise exception.MigrationPreCheckError(
            reason="a server in vCenter is moved in vCenter, by vMotion or DRS"
        )

    # Power

    def power_on(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        """Power on; done at once when it is on."""
        self._run(instance, _power_on())

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:
        """Let the guest shut down within ``timeout`` seconds, then power off.

        ``retry_interval`` is not used: vSphere asks the guest once and reports when it is off.
        Refused as a step of an action that is not offered: for a rescue or a shelve Nova powers
        off first and calls what is refused afterwards.
        """
        if instance.task_state not in POWER_OFF_TASKS:
            raise exception.NovaException(
                f"{instance.task_state} is not offered for a server in vCenter; it is left running"
            )
        operation = operations_pb2.Operation()
        operation.power_off.guest_grace.FromSeconds(int(timeout))
        self._run(instance, operation, CONF.vsphere_gateway.operation_timeout + timeout)

    def reboot(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        reboot_type: str,
        block_device_info: Any = None,
        bad_volumes_callback: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        """Reboot the guest, or reset the virtual machine; a hard reboot also powers on."""
        soft = reboot_type == "SOFT"
        operation = operations_pb2.Operation(reboot=operations_pb2.Reboot(soft=soft))
        grace = CONF.shutdown_timeout if soft else 0
        operation.reboot.guest_grace.FromSeconds(grace)
        result = self._execute(instance, operation, CONF.vsphere_gateway.operation_timeout + grace)
        failure = failure_of("reboot", instance.uuid, result)
        if failure is None:
            return
        if soft or failure.reason != operations_pb2.FAULT_REASON_INVALID_POWER_STATE:
            raise exception_for(failure)
        self._run(instance, _power_on())

    def suspend(self, context: Any, instance: Any) -> None:
        """Suspend to disk."""
        operation = operations_pb2.Operation()
        operation.suspend.SetInParent()
        self._run_or_roll_back(instance, operation)

    def resume(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        share_info: Any = None,
    ) -> None:
        """Resume what was suspended: vSphere's power on."""
        self._run_or_roll_back(instance, _power_on())

    def poll_rebooting_instances(self, timeout: int, instances: Any) -> None:
        """Do nothing: a reboot has ended when `reboot` returns."""

    # Diagnostics

    def get_instance_diagnostics(self, instance: Any) -> Any:
        """Hardware and statistics as an object."""
        return diagnostics.standard(self._diagnostics(instance))

    def get_diagnostics(self, instance: Any) -> dict[str, str | int]:
        """Hardware and statistics as a flat dictionary."""
        return diagnostics.plain(self._diagnostics(instance))

    def _diagnostics(self, instance: Any) -> operations_pb2.VirtualMachineDiagnostics:
        operation = operations_pb2.Operation()
        operation.get_diagnostics.SetInParent()
        return self._run(instance, operation, CONF.vsphere_gateway.diagnostics_timeout).diagnostics

    # Networks: the ports of a virtual machine are vCenter's business

    def plug_vifs(self, instance: Any, network_info: Any) -> None:
        """Nothing to plug on this machine."""

    def unplug_vifs(self, instance: Any, network_info: Any) -> None:
        """Nothing to unplug on this machine."""

    # One operation

    def _run(
        self, instance: Any, operation: operations_pb2.Operation, seconds: int = 0
    ) -> operations_pb2.OperationResult:
        """Run an operation; raise Nova's exception for what went wrong."""
        result = self._execute(instance, operation, seconds)
        failure = failure_of(operation.WhichOneof("action") or "", instance.uuid, result)
        if failure:
            raise exception_for(failure)
        return result

    def _run_or_roll_back(self, instance: Any, operation: operations_pb2.Operation) -> None:
        """As `_run`; the server keeps its state instead of going to ERROR.

        What vCenter did nevertheless arrives with the inventory.
        """
        try:
            self._run(instance, operation)
        except exception.InstanceNotFound:
            raise
        except exception.NovaException as error:
            raise exception.InstanceFaultRollback(inner_exception=error) from error

    def _execute(
        self,
        instance: Any,
        operation: operations_pb2.Operation,
        seconds: int = 0,
        *,
        asked: bool = False,
    ) -> operations_pb2.OperationResult:
        action = operation.WhichOneof("action") or ""
        context = oslo_context.get_current()
        operation.request_id = getattr(context, "request_id", None) or ""
        if action != "clone_virtual_machine":
            operation.target.instance_uuid = instance.uuid
        self._recent.forget(instance.uuid)
        self._at_start.pop(instance.uuid, None)
        try:
            result = self._bridge.execute(
                operation,
                seconds or CONF.vsphere_gateway.operation_timeout,
                getattr(context, "project_id", None) or instance.project_id or "",
                getattr(context, "user_id", None) or instance.user_id or "",
                user_requested_delete=asked,
            )
        except BridgeUnavailable as error:
            if action not in ("power_off", "destroy"):
                raise
            raise exception.InstancePowerOffFailure(reason=str(error)) from error
        if result.HasField("virtual_machine"):
            state = result.virtual_machine.virtual_machine.power_state
            self._recent.keep(instance.uuid, nova_power_state(state))
        return result


def _power_on() -> operations_pb2.Operation:
    operation = operations_pb2.Operation()
    operation.power_on.SetInParent()
    return operation


def _delete_was_asked(instance: Any) -> bool:
    """Whether a user deletes the server, at once or by a soft delete that has expired."""
    return bool(
        instance.task_state == task_states.DELETING or instance.vm_state == vm_states.SOFT_DELETED
    )


def _nothing_to_destroy(failure: Failure, *, asked: bool) -> bool:
    """Whether the virtual machine is gone, or was never made for a build that failed."""
    if failure.reason == operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND:
        return True
    return not asked and failure.reason == operations_pb2.FAULT_REASON_NOT_RECORDED
