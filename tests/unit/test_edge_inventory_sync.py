"""Whatever happens on the way, the control plane ends up with exactly what vCenter has."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from edge.interfaces import CollectorUpdate
from edge.inventory.inventory import Inventory
from edge.inventory.outbox import OutboxLimits
from tests.fakes.inventory_receiver import InventoryReceiver
from tests.fakes.vcenter_truth import VCENTER, VCenterTruth
from vsphere_gateway.v1 import inventory_pb2, link_pb2

IDENTIFIERS = [f"vm-{number}" for number in range(12)]
NAMES = ["a", "b", "c" * 400, "refused"]
LIMITS = OutboxLimits(
    content_bytes=900, batch_objects=3, batch_bytes=700, snapshot_window=2, changes_window=2
)


def refuse(state: inventory_pb2.InventoryObject) -> str:
    return "no such name" if state.virtual_machine.name == "refused" else ""


class Delivery(RuleBasedStateMachine):
    """Random changes, acks, disconnects, lost databases, late and failed answers."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.truth = VCenterTruth()
        self.receiver = InventoryReceiver(refuse)
        self.epoch = 0
        self.start_edge()

    def start_edge(self) -> None:
        self.epoch += 1
        self.inventory = Inventory(LIMITS, lambda: self.time, lambda: self.time)
        self.up: deque[link_pb2.InventoryRequest] = deque()
        self.down: deque[link_pb2.InventoryResponse] = deque()
        self.connected = False
        self.updates: deque[CollectorUpdate] = deque()
        self.question: tuple[list[inventory_pb2.ObjectReference], CollectorUpdate] | None = None
        self.logged_in = False

    @initialize(names=st.dictionaries(st.sampled_from(IDENTIFIERS), st.sampled_from(NAMES)))
    def begin(self, names: dict[str, str]) -> None:
        self.truth.names = names

    # vCenter

    @rule(identifier=st.sampled_from(IDENTIFIERS), name=st.sampled_from([*NAMES, None]))
    def change(self, identifier: str, name: str | None) -> None:
        if name is None:
            self.truth.names.pop(identifier, None)
        else:
            self.truth.names[identifier] = name
        if self.logged_in and identifier not in self.truth.hidden:
            self.updates.append(self.truth.change(identifier))

    @rule(identifier=st.sampled_from(IDENTIFIERS))
    def hide_or_show(self, identifier: str) -> None:
        """A change of permissions, which vCenter announces only for what becomes visible."""
        if identifier not in self.truth.names:
            return
        self.truth.hidden ^= {identifier}
        if self.logged_in and identifier not in self.truth.hidden:
            self.updates.append(self.truth.change(identifier))

    @precondition(lambda self: not self.logged_in)
    @rule(page=st.integers(1, 5))
    def log_in(self, page: int) -> None:
        self.inventory.begin_read(VCENTER)
        self.updates.extend(self.truth.full_read(page))
        self.logged_in = True

    @precondition(lambda self: self.logged_in)
    @rule()
    def log_out(self) -> None:
        self.updates.clear()
        self.answer(failed=True)
        self.logged_in = False

    @precondition(lambda self: self.updates)
    @rule()
    def collect(self) -> None:
        self.inventory.apply(self.updates.popleft())

    @precondition(lambda self: self.logged_in and self.question is None)
    @rule()
    def ask(self) -> None:
        references = self.inventory.next_question(0)
        if references:
            self.question = (references, self.truth.confirm(references))

    @precondition(lambda self: self.question is not None)
    @rule(failed=st.booleans())
    def answer(self, failed: bool) -> None:
        if self.question is None:
            return
        references, answer = self.question
        self.question = None
        if failed:
            self.inventory.unanswered(references)
        else:
            self.inventory.answered(references, answer)

    @precondition(lambda self: self.logged_in)
    @rule(identifier=st.sampled_from(IDENTIFIERS), stale=st.sampled_from(NAMES))
    def operation_reports(self, identifier: str, stale: str) -> None:
        """What an operation read may be older than what the collector has told already."""
        if identifier in self.truth.keys() and not self.truth.hidden:
            self.inventory.observed(VCenterTruth({identifier: stale}).change(identifier).objects[0])

    # The link

    @precondition(lambda self: not self.connected and self.inventory.vcenter() is not None)
    @rule()
    def connect(self) -> None:
        opened = link_pb2.InventoryOpen(epoch=self.epoch, vcenter=self.inventory.vcenter())
        (holdings,) = self.receiver.open(opened)
        self.inventory.attach(holdings.holdings)
        self.connected = True

    @precondition(lambda self: self.connected)
    @rule()
    def disconnect(self) -> None:
        self.inventory.detach()
        self.up.clear()
        self.down.clear()
        self.connected = False

    @precondition(lambda self: self.connected)
    @rule()
    def send(self) -> None:
        request = self.inventory.next_request(0)
        if request is not None:
            self.up.append(request)

    @precondition(lambda self: self.up)
    @rule()
    def receive(self) -> None:
        self.down.extend(self.receiver.receive(self.up.popleft()))

    @precondition(lambda self: self.down)
    @rule()
    def hear(self) -> None:
        self.inventory.received(self.down.popleft())

    @precondition(lambda self: self.connected)
    @rule(identifiers=st.lists(st.sampled_from(IDENTIFIERS), max_size=3))
    def control_plane_doubts(self, identifiers: list[str]) -> None:
        references = [
            inventory_pb2.ObjectReference(type="VirtualMachine", value=identifier)
            for identifier in identifiers
        ]
        confirm = link_pb2.ConfirmObjects(references=references)
        self.down.append(link_pb2.InventoryResponse(confirm_objects=confirm))

    @rule()
    def database_lost(self) -> None:
        if self.connected:
            self.disconnect()
        self.receiver.lose_everything()

    @rule()
    def edge_restarted(self) -> None:
        self.start_edge()

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    @invariant()
    def window_and_memory_are_bounded(self) -> None:
        assert self.inventory.counts().outbox_bytes <= LIMITS.content_bytes
        batches = [request.batch for request in self.up if request.HasField("batch")]
        for lane, window in ((link_pb2.LANE_SNAPSHOT, 2), (link_pb2.LANE_CHANGES, 2)):
            assert sum(batch.lane == lane for batch in batches) <= window

    def teardown(self) -> None:
        """Everything works again for long enough: both sides must agree, and with the truth."""
        self.log_out()
        self.log_in(page=4)
        if not self.connected:
            self.connect()
        parities = len(self.receiver.parities)
        for _ in range(400):
            self.time += 1
            while self.updates:
                self.collect()
            self.answer(failed=False)
            self.ask()
            self.send()
            while self.up:
                self.receive()
            while self.down:
                self.hear()
        assert len(self.receiver.parities) > parities, "no parity"
        self.check()

    def check(self) -> None:
        wanted = {key: name for key, name in self.truth.keys().items() if name != "refused"}
        held = {key: state.virtual_machine.name for key, state in self.receiver.held.items()}
        assert held == wanted
        refused = {key for key, name in self.truth.keys().items() if name == "refused"}
        assert refused <= self.receiver.quarantine.keys()
        assert self.inventory.counts().outbox_objects == 0


Delivery.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestTheControlPlaneEndsWithExactlyTheTruth = Delivery.TestCase
