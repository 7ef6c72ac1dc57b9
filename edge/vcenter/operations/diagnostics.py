"""Hardware and quick statistics of one virtual machine."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from pyVmomi import vim

from common.log_fields import fields
from edge.vcenter.client import faults
from edge.vcenter.client.properties import Step, read_properties, read_related
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.operations.control import OperationControl, OperationOutcome
from edge.vcenter.operations.target import OperationContext
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

log = logging.getLogger(__name__)

_MACHINE_PATHS: Final = (
    "summary.quickStats.uptimeSeconds",
    "summary.quickStats.overallCpuUsage",
    "summary.quickStats.guestMemoryUsage",
)
_RECEIVED: Final = "net.received.average"
_TRANSMITTED: Final = "net.transmitted.average"
_REALTIME_SECONDS: Final = 20
_BYTES_PER_KB: Final = 1024

Rates = Mapping[tuple[str, int], int]
"""Bytes per second by counter name and device key."""


def get_diagnostics(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """Read hardware, quickStats, the host's name, and the network rates of the last 20 s."""
    control.check()
    found = context.machines.subject(operation)
    values, host_name = _read(context.session, found.managed_object)
    running = found.machine.power_state == inventory_pb2.POWER_STATE_ON
    rates = _network_rates(context, found.managed_object) if running else {}
    return OperationOutcome(found.state, _message(found.machine, values, host_name, rates))


def _read(session: VCenterSession, machine: Any) -> tuple[dict[str, Any], str]:
    wanted: dict[type, tuple[str, ...]] = {
        vim.VirtualMachine: _MACHINE_PATHS,
        vim.HostSystem: ("name",),
    }
    steps = [Step(vim.VirtualMachine, "runtime.host")]
    found = read_related(session, [machine], wanted, steps)
    hosts = [values.get("name", "") for each, values in found.items() if each != machine]
    return found.get(machine, {}), hosts[0] if hosts else ""


def _message(
    machine: inventory_pb2.VirtualMachine, values: dict[str, Any], host_name: str, rates: Rates
) -> operations_pb2.VirtualMachineDiagnostics:
    quick = {path.rpartition(".")[2]: value for path, value in values.items()}
    return operations_pb2.VirtualMachineDiagnostics(
        power_state=machine.power_state,
        uptime_seconds=quick.get("uptimeSeconds") or 0,
        cpus=machine.cpus,
        cpu_usage_mhz=quick.get("overallCpuUsage") or 0,
        memory_mb=machine.memory_mb,
        memory_used_mb=quick.get("guestMemoryUsage") or 0,
        nics=[
            operations_pb2.NicDiagnostics(
                mac_address=nic.mac_address,
                received_bytes_per_second=rates.get((_RECEIVED, nic.key), 0),
                transmitted_bytes_per_second=rates.get((_TRANSMITTED, nic.key), 0),
            )
            for nic in machine.nics
        ],
        disks=[
            operations_pb2.DiskDiagnostics(label=disk.label, capacity_bytes=disk.capacity_bytes)
            for disk in machine.disks
        ],
        tools_running=machine.tools_running,
        host_name=host_name,
    )


def _network_rates(context: OperationContext, machine: Any) -> Rates:
    """Ask PerformanceManager.QueryPerf; nothing where it keeps no real-time figures."""
    manager: Any = context.session.content.perfManager
    counters = context.network_counters
    try:
        if not counters:
            counters.update(_read_counters(context.session, manager))
        if not counters:
            return {}
        query = vim.PerformanceManager.QuerySpec(
            entity=machine,
            metricId=[
                vim.PerformanceManager.MetricId(counterId=identifier, instance="*")
                for identifier in counters
            ],
            intervalId=_REALTIME_SECONDS,
            maxSample=1,
        )
        answer = manager.QueryPerf([query])
    except (faults.VSphereFaultError, faults.PermissionDeniedError) as error:
        log.info("no network rates", extra=fields(object=machine._moId, error=error))
        return {}
    return {
        (counters[series.id.counterId], int(series.id.instance)): series.value[-1] * _BYTES_PER_KB
        for entity in answer or []
        for series in entity.value or []
        if series.value and series.id.instance.isdigit() and series.value[-1] >= 0
    }


def _read_counters(session: VCenterSession, manager: Any) -> dict[int, str]:
    """The two counters' names by identifier, which differs from vCenter to vCenter."""
    counters = read_properties(session, manager, ["perfCounter"]).get("perfCounter") or []
    names = {
        each.key: f"{each.groupInfo.key}.{each.nameInfo.key}.{each.rollupType}" for each in counters
    }
    return {key: name for key, name in names.items() if name in (_RECEIVED, _TRANSMITTED)}
