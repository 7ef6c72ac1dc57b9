"""What each listing asks of the admin listener, and the columns that it shows."""

import argparse
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from common.terminal import ESSENTIAL, Column
from controlplane.commands.text import duration, size, utc_time, vcenter_state, yes_no
from vsphere_gateway.v1 import diagnostics_pb2
from vsphere_gateway.v1.diagnostics_pb2_grpc import DiagnosticsStub

CALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Listing:
    """One command that lists something."""

    summary: str
    fetch: Callable[[DiagnosticsStub, argparse.Namespace], Sequence[Message]]
    columns: Sequence[Column]


def _edges(stub: DiagnosticsStub, _: argparse.Namespace) -> Sequence[Message]:
    return stub.ListEdges(diagnostics_pb2.ListEdgesRequest(), timeout=CALL_SECONDS).edges


def _clusters(stub: DiagnosticsStub, _: argparse.Namespace) -> Sequence[Message]:
    return stub.ListClusters(diagnostics_pb2.ListClustersRequest(), timeout=CALL_SECONDS).clusters


def _servers(stub: DiagnosticsStub, options: argparse.Namespace) -> Sequence[Message]:
    request = diagnostics_pb2.ListServersRequest(cluster=options.cluster)
    return stub.ListServers(request, timeout=CALL_SECONDS).servers


def _images(stub: DiagnosticsStub, _: argparse.Namespace) -> Sequence[Message]:
    return stub.ListImages(diagnostics_pb2.ListImagesRequest(), timeout=CALL_SECONDS).images


def _operations(stub: DiagnosticsStub, options: argparse.Namespace) -> Sequence[Message]:
    request = diagnostics_pb2.ListOperationsRequest(limit=options.limit)
    return stub.ListOperations(request, timeout=CALL_SECONDS).operations


def _quarantine(stub: DiagnosticsStub, _: argparse.Namespace) -> Sequence[Message]:
    request = diagnostics_pb2.ListQuarantineRequest()
    return stub.ListQuarantine(request, timeout=CALL_SECONDS).entries


def _took(operation: diagnostics_pb2.OperationStatus) -> str:
    if not operation.HasField("finished_at"):
        return "-"
    elapsed = operation.finished_at.ToDatetime() - operation.created_at.ToDatetime()
    return duration(elapsed.total_seconds())


def _certificate(edge: diagnostics_pb2.EdgeStatus) -> str:
    if not edge.HasField("certificate_not_after"):
        return "-"
    left = edge.certificate_not_after.ToDatetime(datetime.UTC) - datetime.datetime.now(datetime.UTC)
    return f"{duration(left.total_seconds())} left" if left.total_seconds() > 0 else "expired"


def _state(edge: diagnostics_pb2.EdgeStatus) -> str:
    words = vcenter_state(edge.vcenter_state)
    return f"{words}: {edge.vcenter_message}" if edge.vcenter_message else words


def _or_dash(text: str) -> str:
    return text or "-"


EDGES = Listing(
    "edges, their link, their certificate, and since when both sides agree",
    _edges,
    (
        Column("Edge", lambda edge: edge.name, rank=ESSENTIAL),
        Column("Link", lambda edge: "online" if edge.online else "offline", rank=ESSENTIAL),
        Column("Since", lambda edge: utc_time(edge.since)),
        Column("Last heard", lambda edge: duration(edge.link_age_ms / 1000) + " ago", right=True),
        Column("Lease", lambda edge: yes_no(edge.lease_held)),
        Column("vCenter", lambda edge: _or_dash(edge.vcenter_name), prose=True),
        Column("vCenter state", _state, prose=True, rank=ESSENTIAL),
        Column("Failing", lambda edge: _or_dash("; ".join(edge.failing_threads)), prose=True),
        Column("In sync", lambda edge: utc_time(edge.parity_at) if edge.HasField("parity_at")
               else "partial", rank=1),
        Column("Certificate", _certificate),
        Column("Version", lambda edge: _or_dash(edge.version)),
        Column("Peer", lambda edge: _or_dash(edge.peer)),
    ),
)  # fmt: skip

CLUSTERS = Listing(
    "clusters, their compute host and worker",
    _clusters,
    (
        Column("Cluster", lambda cluster: cluster.name, rank=ESSENTIAL),
        Column("State", lambda cluster: cluster.state, rank=ESSENTIAL),
        Column("Compute host", lambda cluster: cluster.compute_host),
        Column("Policy", lambda cluster: cluster.policy),
        Column("Hosts", lambda cluster: str(cluster.hosts), right=True),
        Column("Servers", lambda cluster: str(cluster.servers), right=True),
        Column("Worker", lambda cluster: _or_dash(cluster.worker_state), rank=1),
        Column("Pid", lambda cluster: _or_dash(str(cluster.worker_pid or "")), right=True),
        Column(
            "Reason", lambda cluster: _or_dash(cluster.state_reason), prose=True, rank=ESSENTIAL
        ),
    ),
)

SERVERS = Listing(
    "servers that stand for virtual machines",
    _servers,
    (
        Column("Server", lambda server: server.name, rank=ESSENTIAL),
        Column("Status", lambda server: server.status, rank=ESSENTIAL),
        Column("Compute host", lambda server: server.compute_host),
        Column("CPUs", lambda server: str(server.cpus), right=True),
        Column("Memory", lambda server: size(server.memory_mb * 1024**2), right=True),
        Column("Disk", lambda server: size(server.disk_gb * 1024**3), right=True),
        Column("Addresses", lambda server: _or_dash(", ".join(server.addresses)), prose=True),
        Column("Project", lambda server: _or_dash(server.project_id)),
        Column("Origin", lambda server: server.origin),
        Column("In vCenter", lambda server: server.moref),
        Column("UUID", lambda server: server.uuid),
    ),
)

IMAGES = Listing(
    "images that stand for templates",
    _images,
    (
        Column("Image", lambda image: image.name, rank=ESSENTIAL),
        Column("Status", lambda image: image.status, rank=ESSENTIAL),
        Column("Size", lambda image: size(image.size_bytes), right=True),
        Column("Visibility", lambda image: image.visibility),
        Column("Owner", lambda image: _or_dash(image.owner)),
        Column("In vCenter", lambda image: image.moref),
        Column("Id", lambda image: image.id),
    ),
)

OPERATIONS = Listing(
    "what Nova asked for and how it ended, newest first",
    _operations,
    (
        Column("Asked", lambda operation: utc_time(operation.created_at)),
        Column("Action", lambda operation: operation.action, rank=ESSENTIAL),
        Column("State", lambda operation: operation.state, rank=ESSENTIAL),
        Column("Took", _took, right=True),
        Column("Server", lambda operation: operation.instance_uuid, rank=1),
        Column("Compute host", lambda operation: _or_dash(operation.compute_host)),
        Column("Edge", lambda operation: _or_dash(operation.edge)),
        Column("Request", lambda operation: _or_dash(operation.request_id)),
        Column("Error", lambda operation: _or_dash(operation.error), prose=True, rank=ESSENTIAL),
    ),
)

QUARANTINE = Listing(
    "what could not be read or applied, alarms, and why",
    _quarantine,
    (
        Column("Since", lambda entry: utc_time(entry.since)),
        Column("Object", lambda entry: entry.object, rank=ESSENTIAL),
        Column("Name", lambda entry: _or_dash(entry.name)),
        Column("Reason", lambda entry: entry.reason, rank=1),
        Column("Tried", lambda entry: _or_dash(str(entry.attempts or "")), right=True),
        Column("What to know", lambda entry: entry.message, prose=True, rank=ESSENTIAL),
    ),
)

LISTINGS: Mapping[str, Listing] = {
    "edges": EDGES,
    "clusters": CLUSTERS,
    "servers": SERVERS,
    "images": IMAGES,
    "operations": OPERATIONS,
    "quarantine": QUARANTINE,
}
