"""A client of a placement service on the loopback interface, and records to give it."""

import dataclasses
import uuid
from typing import Any

from keystoneauth1 import adapter, session, token_endpoint

from controlplane.domain.records import AllocationRecord, ComputeHostRecord
from controlplane.openstack.placement.client import MICROVERSION, PlacementClient


def client_for(endpoint: str) -> PlacementClient:
    """A client of the service at an endpoint."""
    plugin = token_endpoint.Token(endpoint, "admin:admin")
    return PlacementClient(
        adapter.Adapter(
            session=session.Session(auth=plugin),
            service_type="placement",
            default_microversion=MICROVERSION,
            raise_exc=False,
        )
    )


def cluster(**changes: Any) -> ComputeHostRecord:
    """A cluster with a new provider."""
    number = uuid.uuid4()
    fields: dict[str, Any] = {
        "host": f"host-{number}",
        "node": f"domain-c7.{number}",
        "node_uuid": str(number),
        "cpus": 64,
        "memory_mb": 262144,
        "disk_gb": 10240,
        "largest_cpus": 64,
        "largest_memory_mb": 131072,
        "largest_disk_gb": 4096,
        "cpus_used": 0,
        "memory_mb_used": 0,
        "disk_gb_used": 0,
        "hypervisor_version": 8000003,
        "cpu_info": "{}",
        "traits": frozenset({"CUSTOM_VSG_VCENTER_A"}),
    }
    return ComputeHostRecord(**{**fields, **changes})


def allocation(host: ComputeHostRecord, **changes: object) -> AllocationRecord:
    """What one server of a cluster holds."""
    made = AllocationRecord(
        consumer_uuid=str(uuid.uuid4()),
        provider_uuid=host.node_uuid,
        project_id="p" * 32,
        user_id="u" * 32,
        vcpus=1,
        memory_mb=512,
        disk_gb=10,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]
