"""From what vCenter says and what the pipeline decided to records. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from controlplane.inventory.records import ImageRecord, Policy, ServerRecord
from vsphere_gateway.v1 import inventory_pb2


class Names(Protocol):
    """What references mean in one vCenter."""

    vcenter_uuid: str
    vcenter_name: str

    def name(self, reference: inventory_pb2.ObjectReference) -> str:
        """The object's name, empty when it is not known."""

    def folder_path(self, reference: inventory_pb2.ObjectReference) -> str:
        """Path below the datacenter's `vm` folder, the datacenter first, for example `DC0/web`."""

    def datacenter(self, reference: inventory_pb2.ObjectReference) -> str:
        """Name of the datacenter that holds the object, empty when it is not known."""


@dataclass(frozen=True, slots=True)
class ServerDecision:
    """What the pipeline decided about a virtual machine that is adopted."""

    instance_uuid: str
    project_id: str
    user_id: str
    policy: Policy
    compute_host: str
    node: str
    compute_node_uuid: str
    image_id: str | None = None
    """The image of the template that it was cloned from, when that is known."""


@dataclass(frozen=True, slots=True)
class ImageDecision:
    """What the pipeline decided about a template."""

    image_id: str
    owner: str
    visibility: str
    """`public`, `community`, `shared` or `private`."""
    members: frozenset[str] = frozenset()
    """Projects that see a `shared` image."""


def server_record(
    machine: inventory_pb2.VirtualMachine,
    reference: inventory_pb2.ObjectReference,
    decision: ServerDecision,
    names: Names,
    now: datetime,
) -> ServerRecord:
    """Return the server that stands for a virtual machine; ``now`` is UTC."""
    raise NotImplementedError


def image_record(
    template: inventory_pb2.VirtualMachine,
    reference: inventory_pb2.ObjectReference,
    decision: ImageDecision,
    names: Names,
    now: datetime,
) -> ImageRecord:
    """Return the image that stands for a template; ``now`` is UTC."""
    raise NotImplementedError
