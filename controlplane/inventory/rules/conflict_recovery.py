"""Contests that another process left open: told from what is held, not kept for themselves."""

from controlplane.inventory.rules.identity import Bindings, canonical
from controlplane.inventory.rules.identity_conflicts import CONTESTED, Contests
from controlplane.store.database import Connection
from controlplane.store.own import objects
from vsphere_gateway.v1 import inventory_pb2


def reopen(
    connection: Connection,
    bindings: Bindings,
    contests: Contests,
    vcenter_uuid: str | None = None,
) -> None:
    """Open the contests of newcomers in one vCenter, or in all.

    A newcomer is a virtual machine that has no server, and the instance UUID of another's. Hidden
    ones count: what is hidden is kept.
    """
    for uuid, body in objects.unsettled_machines(connection, vcenter_uuid):
        one = inventory_pb2.InventoryObject.FromString(body)
        place = (uuid, one.reference.value)
        server = bindings.get(canonical(one.virtual_machine.instance_uuid))
        if server is None or server.state not in CONTESTED or bindings.at(place) is not None:
            continue
        contests.open(place, (server.vcenter_uuid, server.moref), server.uuid)
