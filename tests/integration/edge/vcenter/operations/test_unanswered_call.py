"""A call that vCenter leaves unanswered holds up the operation that made it, and no other."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.background import ThreadMonitor
from edge.config import ManagedSettings
from edge.vcenter.operations.control import OperationControl
from edge.vcenter.operations.dispatch import VCenterOperations
from tests.support.edge_vcenter_site import PATIENCE, VCenterSite
from tests.support.operations_site import reference
from tests.support.restricted_vcenter import RestrictedVCenter
from tests.support.servers import StartVcsim
from vsphere_gateway.v1 import operations_pb2


@pytest.fixture
def relay(vcsim: StartVcsim) -> Iterator[RestrictedVCenter]:
    standing = RestrictedVCenter(vcsim(vm=4, method_delay="PowerOff:500,LockHandoff:0"))
    yield standing
    standing.answer_all()
    standing.close()


@pytest.fixture
def site(relay: RestrictedVCenter, tmp_path: Path) -> Iterator[VCenterSite]:
    opened = VCenterSite(relay, tmp_path, ManagedSettings(("*",)))  # type: ignore[arg-type]
    yield opened
    opened.close()


@pytest.mark.parametrize("call", [b"CreatePropertyCollector", b"CreateFilter", b"PowerOffVM_Task"])
def test_other_operations_go_on_while_vcenter_leaves_one_call_unanswered(
    site: VCenterSite, relay: RestrictedVCenter, call: bytes
) -> None:
    held, other, third = (power_off(machine) for machine in site.machines()[:3])
    with site.following() as follower:
        operations = VCenterOperations(
            site.session, follower.collector, site.managed, ThreadMonitor()
        )
        # The collector has made what it needs once it has reported an announced change.
        site.reconfigure(site.machines()[3], annotation="announced")
        follower.wait(lambda: follower.reported)
        relay.keep_waiting(call)
        waiting = threading.Thread(target=run, args=(operations, held))
        waiting.start()
        assert relay.keeps.wait(PATIENCE)
        began = time.monotonic()
        run(operations, other)
        run(operations, third)
        assert time.monotonic() - began < PATIENCE / 3
        assert waiting.is_alive(), "vCenter has answered, and nothing was shown"
        relay.answer_all()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        operations.close()
    assert {machine.runtime.powerState for machine in site.machines()[:3]} == {"poweredOff"}


def power_off(machine: Any) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(power_off=operations_pb2.PowerOff())
    operation.target.instance_uuid = machine.config.instanceUuid
    operation.target.reference.CopyFrom(reference(machine))
    return operation


def run(operations: VCenterOperations, operation: operations_pb2.Operation) -> None:
    operations.run(operation, OperationControl(time.monotonic() + PATIENCE))
