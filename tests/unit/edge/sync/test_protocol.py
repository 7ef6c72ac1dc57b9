"""Whatever happens on the way, the control plane ends up with exactly what vCenter has."""

from collections import deque
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.interfaces import CollectorUpdate
from edge.sync.inventory import Inventory
from edge.sync.outbox import OutboxLimits
from tests.support.inventory_receiver import InventoryReceiver
from tests.support.vcenter_truth import VCENTER, VCenterTruth
from vsphere_gateway.v1 import inventory_pb2, link_pb2

IDENTIFIERS = [f"vm-{number}" for number in range(6)]
NAMES = ["a", "b", "c" * 300, "d" * 300, "refused"]
LIMITS = OutboxLimits(
    content_bytes=800, batch_objects=2, batch_bytes=700, snapshot_window=2, changes_window=2
)


def refuse(state: inventory_pb2.InventoryObject) -> str:
    return "no such name" if state.virtual_machine.name == "refused" else ""


class World:
    """vCenter, edge and control plane, with everything between them in queues.

    At the end nothing is healed that the protocol does not heal by itself: there is neither a new
    login nor a new call, unless vCenter has something that it never announced.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.truth = VCenterTruth({"vm-0": "a", "vm-1": "b", "vm-2": "c" * 300, "vm-3": "a"})
        self.receiver = InventoryReceiver(refuse)
        self.epoch = 0
        self.restart_edge(0)

    def restart_edge(self, page: int) -> None:
        self.epoch += 1
        self.inventory = Inventory(LIMITS, lambda: self.time, lambda: self.time)
        self.question: tuple[list[inventory_pb2.ObjectReference], CollectorUpdate] | None = None
        self.connected = False
        self.log_in(page)
        self.connect()

    # vCenter

    def log_in(self, page: int) -> None:
        self.answer(failed=True)
        self.inventory.begin_read(VCENTER)
        self.updates = deque(self.truth.full_read(page + 1))
        self.unannounced = False

    def change(self, choice: int) -> None:
        """Create, change or delete; vCenter announces it."""
        identifier = IDENTIFIERS[choice % len(IDENTIFIERS)]
        name = [*NAMES, None][choice // len(IDENTIFIERS) % (len(NAMES) + 1)]
        if name is None:
            self.truth.names.pop(identifier, None)
        else:
            self.truth.names[identifier] = name
        if identifier not in self.truth.hidden:
            self.updates.append(self.truth.change(identifier))

    def hide_or_show(self, choice: int) -> None:
        """A change of permissions, which vCenter announces only for what becomes visible."""
        identifier = IDENTIFIERS[choice % len(IDENTIFIERS)]
        self.truth.hidden ^= {identifier}
        if identifier in self.truth.hidden:
            self.unannounced = True
        elif identifier in self.truth.names:
            self.updates.append(self.truth.change(identifier))

    def collect(self, most: int = 0) -> None:
        for _ in range(min(most + 1, len(self.updates))):
            self.inventory.apply(self.updates.popleft())

    def ask(self) -> None:
        """vCenter answers at once; the answer arrives when ``answer`` is called."""
        references = [] if self.question else self.inventory.next_verification(0)
        if references:
            self.question = (references, self.truth.confirm(references))

    def answer(self, failed: bool = False) -> None:
        question, self.question = self.question, None
        if question and failed:
            self.inventory.retry_verification(question[0])
        elif question:
            self.inventory.apply_verification(*question)

    def operation_reports(self, choice: int) -> None:
        """What an operation read may be older than what the collector has told already."""
        identifier = IDENTIFIERS[choice % len(IDENTIFIERS)]
        if identifier in self.truth.names and not self.truth.hidden:
            state = VCenterTruth({identifier: NAMES[choice % 3]}).change(identifier).objects[0]
            self.inventory.observed(state)

    # The link

    def connect(self) -> None:
        """A new call; one that was open breaks, and what was under way is lost."""
        if self.connected:
            self.inventory.detach()
        self.up: deque[link_pb2.InventoryRequest] = deque()
        self.down: deque[link_pb2.InventoryResponse] = deque()
        opened = link_pb2.InventoryOpen(epoch=self.epoch, vcenter=self.inventory.vcenter())
        (holdings,) = self.receiver.open(opened)
        self.inventory.attach(holdings.holdings)
        self.connected = True

    def send(self, most: int = 0) -> None:
        for _ in range(most + 1):
            request = self.inventory.next_request(0)
            if request is not None:
                self.up.append(request)
        batches = [request.batch for request in self.up if request.HasField("batch")]
        for lane in (link_pb2.LANE_SNAPSHOT, link_pb2.LANE_CHANGES):
            assert sum(batch.lane == lane for batch in batches) <= 2, "window exceeded"

    def receive(self, most: int = 0) -> None:
        for _ in range(min(most + 1, len(self.up))):
            self.down.extend(self.receiver.receive(self.up.popleft()))

    def hear(self, most: int = 0) -> None:
        for _ in range(min(most + 1, len(self.down))):
            self.inventory.received(self.down.popleft())

    def control_plane_doubts(self, choice: int) -> None:
        identifier = IDENTIFIERS[choice % len(IDENTIFIERS)]
        reference = inventory_pb2.ObjectReference(type="VirtualMachine", value=identifier)
        confirm = link_pb2.ConfirmObjects(references=[reference])
        self.down.append(link_pb2.InventoryResponse(confirm_objects=confirm))

    def lose_database(self) -> None:
        self.receiver.lose_everything()
        self.connect()

    def all_goes_well(self, rounds: int) -> None:
        for _ in range(rounds):
            self.time += 1
            self.collect()
            self.answer()
            self.ask()
            self.send()
            self.receive(2)
            self.hear(8)

    def perform(self, action: str, choice: int) -> None:
        few = choice % 4
        actions: dict[str, Callable[[], None]] = {
            "change": lambda: self.change(choice),
            "hide_or_show": lambda: self.hide_or_show(choice),
            "log_in": lambda: self.log_in(few),
            "collect": lambda: self.collect(few),
            "ask": self.ask,
            "answer": lambda: self.answer(failed=choice % 8 == 0),
            "operation_reports": lambda: self.operation_reports(choice),
            "connect": self.connect,
            "send": lambda: self.send(few),
            "receive": lambda: self.receive(few),
            "hear": lambda: self.hear(few),
            "control_plane_doubts": lambda: self.control_plane_doubts(choice),
            "lose_database": self.lose_database,
            "restart_edge": lambda: self.restart_edge(few),
            "all_goes_well": lambda: self.all_goes_well(choice // 2),
        }
        actions[action]()
        assert self.inventory.counts().outbox_bytes <= LIMITS.content_bytes

    def check(self) -> None:
        if self.unannounced:
            self.log_in(3)
        self.all_goes_well(200)
        wanted = {key: name for key, name in self.truth.keys().items() if name != "refused"}
        held = {key: state.virtual_machine.name for key, state in self.receiver.held.items()}
        assert held == wanted
        refused = {key for key, name in self.truth.keys().items() if name == "refused"}
        assert refused <= self.receiver.quarantine.keys()
        assert self.inventory.counts().outbox_objects == 0
        assert self.receiver.parities, "no parity"


CALM = ["change"] * 4 + ["collect"] * 3 + ["send"] * 3 + ["receive"] * 2 + ["hear"] * 2
ROUGH = [
    *CALM,
    *("hide_or_show", "log_in", "ask", "ask", "answer", "answer", "operation_reports", "connect"),
    *("control_plane_doubts", "lose_database", "restart_edge", "all_goes_well"),
]
"""What a calm story lacks heals what a fault has broken, and so can hide one."""


def stories(names: list[str]) -> st.SearchStrategy[list[tuple[str, int]]]:
    steps = st.tuples(st.sampled_from(names), st.integers(0, 35))
    return st.lists(steps, min_size=10, max_size=80)


@settings(max_examples=400, deadline=None)
@given(st.one_of(stories(ROUGH), stories(CALM)))
def test_the_control_plane_ends_with_exactly_the_truth(story: list[tuple[str, int]]) -> None:
    world = World()
    world.all_goes_well(20)
    for action, choice in story:
        world.perform(action, choice)
    world.check()
