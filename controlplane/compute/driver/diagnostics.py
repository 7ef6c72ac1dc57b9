"""Diagnostics of a virtual machine in Nova's two forms. Pure."""

from nova.compute import power_state
from nova.objects import diagnostics as diagnostics_obj

from controlplane.compute.driver.states import nova_power_state
from vsphere_gateway.v1 import operations_pb2


def standard(found: operations_pb2.VirtualMachineDiagnostics) -> diagnostics_obj.Diagnostics:
    """The object of microversion 2.48 and later (doc/api-ref: server diagnostics)."""
    state = power_state.STATE_MAP[nova_power_state(found.power_state)]
    result = diagnostics_obj.Diagnostics(
        state=state,
        driver="vmwareapi",
        hypervisor="vmware",
        hypervisor_os="esxi",
        uptime=found.uptime_seconds,
        config_drive=False,
    )
    for number in range(found.cpus):
        result.add_cpu(id=number)
    for nic in found.nics:
        result.add_nic(
            mac_address=nic.mac_address,
            rx_rate=nic.received_bytes_per_second,
            tx_rate=nic.transmitted_bytes_per_second,
        )
    for _ in found.disks:
        result.add_disk()
    result.memory_details.maximum = found.memory_mb
    result.memory_details.used = found.memory_used_mb
    return result


def plain(found: operations_pb2.VirtualMachineDiagnostics) -> dict[str, str | int]:
    """The flat form of microversions before 2.48."""
    values: dict[str, str | int] = {
        "power_state": power_state.STATE_MAP[nova_power_state(found.power_state)],
        "uptime_seconds": found.uptime_seconds,
        "cpus": found.cpus,
        "cpu_usage_mhz": found.cpu_usage_mhz,
        "memory_mb": found.memory_mb,
        "memory_used_mb": found.memory_used_mb,
        "tools_running": str(found.tools_running).lower(),
        "host_name": found.host_name,
    }
    for nic in found.nics:
        values[f"nic_{nic.mac_address}_rx_bytes_per_second"] = nic.received_bytes_per_second
        values[f"nic_{nic.mac_address}_tx_bytes_per_second"] = nic.transmitted_bytes_per_second
    for disk in found.disks:
        values[f"disk_{disk.label}_capacity_bytes"] = disk.capacity_bytes
    return values
