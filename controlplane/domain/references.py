"""What kind of object an inventory message carries. Pure."""

from vsphere_gateway.v1 import inventory_pb2

KIND_BY_BODY: dict[str, int] = {
    "vcenter": inventory_pb2.OBJECT_KIND_VCENTER,
    "datacenter": inventory_pb2.OBJECT_KIND_DATACENTER,
    "folder": inventory_pb2.OBJECT_KIND_FOLDER,
    "cluster": inventory_pb2.OBJECT_KIND_CLUSTER,
    "host": inventory_pb2.OBJECT_KIND_HOST,
    "resource_pool": inventory_pb2.OBJECT_KIND_RESOURCE_POOL,
    "datastore": inventory_pb2.OBJECT_KIND_DATASTORE,
    "network": inventory_pb2.OBJECT_KIND_NETWORK,
    "distributed_switch": inventory_pb2.OBJECT_KIND_DISTRIBUTED_SWITCH,
    "virtual_machine": inventory_pb2.OBJECT_KIND_VIRTUAL_MACHINE,
    "template": inventory_pb2.OBJECT_KIND_TEMPLATE,
}
BODY_BY_KIND = {kind: body for body, kind in KIND_BY_BODY.items()}
"""Also the names of kinds for people."""

MACHINE_KINDS = frozenset(
    {inventory_pb2.OBJECT_KIND_VIRTUAL_MACHINE, inventory_pb2.OBJECT_KIND_TEMPLATE}
)
CONTEXT_KINDS = frozenset(BODY_BY_KIND) - MACHINE_KINDS
"""Everything that virtual machines live in."""


def machine_of(state: inventory_pb2.InventoryObject) -> inventory_pb2.VirtualMachine:
    """The virtual machine or the template that an object is."""
    return state.template if state.HasField("template") else state.virtual_machine


def kind_of(state: inventory_pb2.InventoryObject) -> int:
    """The ObjectKind of an object; 0 when it carries nothing that is known here."""
    return KIND_BY_BODY.get(state.WhichOneof("body") or "", 0)
