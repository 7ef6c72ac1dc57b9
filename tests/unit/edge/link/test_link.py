"""The link without a connection: how long it waits before it dials again."""

from typing import NoReturn, cast

import pytest

from common.backoff import Backoff
from edge.control_messages import ControlMessages
from edge.errors import BundleError
from edge.health import Health
from edge.link.link import Dialer, EdgeFacts, Link
from edge.operations.executor import OperationExecutor
from edge.sync.inventory import Inventory
from edge.sync.on_demand_read import OnDemandReads
from edge.sync.outbox import OutboxLimits
from tests.support.fake_monotonic import FakeMonotonic
from tests.support.scripted_operations import ScriptedOperations
from tests.support.vcenter_truth import VCenterTruth


class NowhereDialer:
    """Finds no bundle, after a link of so many seconds."""

    def __init__(self, hands: FakeMonotonic, seconds: float) -> None:
        self.hands = hands
        self.seconds = seconds

    def look_up(self) -> NoReturn:
        self.hands.now += self.seconds
        raise BundleError("no bundle")


@pytest.mark.parametrize(("lived", "next_bound"), [(59.0, 1.6), (60.0, 1.0)])
def test_link_that_lived_long_begins_its_delays_anew(lived: float, next_bound: float) -> None:
    hands = FakeMonotonic()
    inventory, messages = Inventory(OutboxLimits()), ControlMessages()
    health = Health(inventory)
    backoff = Backoff(uniform=lambda low, high: high)
    backoff.next_delay()
    link = Link(
        cast(Dialer, NowhereDialer(hands, lived)),
        EdgeFacts("0", 1, ()),
        inventory,
        OutboxLimits(),
        OperationExecutor(ScriptedOperations(), inventory, messages, health.threads),
        messages,
        OnDemandReads(VCenterTruth),
        health,
        backoff,
        monotonic=hands,
    )
    link._dial()
    assert backoff.next_delay() == next_bound
