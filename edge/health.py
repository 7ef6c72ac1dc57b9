"""State of the site and of the edge itself, for heartbeats and systemd's status line."""

import dataclasses
import os
import threading
from pathlib import Path
from typing import Protocol

from common.background import ThreadMonitor
from edge.scrub import scrub
from vsphere_gateway.v1 import link_pb2

_STATM = Path("/proc/self/statm")


@dataclasses.dataclass(frozen=True, slots=True)
class VCenterHealth:
    """State of the connection to vCenter."""

    state: link_pb2.VCenterState.ValueType = link_pb2.VCENTER_STATE_UNSPECIFIED
    message: str = ""
    """Explains the state to a person; no secrets."""
    version: int = 0
    """Grows with every change."""


class Counts(Protocol):
    """How much there is (``edge.sync.inventory.InventoryCounts``)."""

    @property
    def outbox_objects(self) -> int:
        """Objects that the control plane has not acknowledged."""


class CountedInventory(Protocol):
    """What heartbeats say of the inventory (``edge.sync.inventory.Inventory``)."""

    def counts(self) -> Counts:
        """Count what is there."""

    def unreadable(self) -> list[link_pb2.UnreadableObject]:
        """List objects that could not be read, with reasons; bounded."""


class Health:
    """The state of the site. Safe for threads."""

    def __init__(self, inventory: CountedInventory) -> None:
        self._inventory = inventory
        self._changed = threading.Condition()
        self._vcenter = VCenterHealth()
        self.threads = ThreadMonitor(self.wake)
        """Background threads of this process; a heartbeat names those that are down."""

    def set_vcenter(self, state: link_pb2.VCenterState.ValueType, message: str = "") -> None:
        """Set the state of the connection to vCenter."""
        with self._changed:
            message = scrub(message)
            if (state, message) == (self._vcenter.state, self._vcenter.message):
                return
            self._vcenter = VCenterHealth(state, message, self._vcenter.version + 1)
            self._changed.notify_all()

    def vcenter(self) -> VCenterHealth:
        """State of the connection to vCenter."""
        with self._changed:
            return self._vcenter

    def wait_for_change(self, version: int, timeout: float) -> bool:
        """Wait until the vCenter's state is another than at ``version``; False on a timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._vcenter.version != version, timeout)

    def wake(self) -> None:
        """Let every ``wait_for_change`` return, as if something had changed."""
        with self._changed:
            self._vcenter = dataclasses.replace(self._vcenter, version=self._vcenter.version + 1)
            self._changed.notify_all()

    def failing_threads(self) -> list[str]:
        """Background threads that are down, each with the error that it failed with."""
        return [
            scrub(f"thread {each.thread} is down: {each.reason}") for each in self.threads.down()
        ]

    def heartbeat(self) -> link_pb2.Heartbeat:
        """A heartbeat without sequence and time."""
        vcenter = self.vcenter()
        return link_pb2.Heartbeat(
            vcenter_state=vcenter.state,
            vcenter_message=vcenter.message,
            outbox_objects=self._inventory.counts().outbox_objects,
            resident_bytes=resident_bytes(),
            unreadable_objects=self._inventory.unreadable(),
            failing_threads=self.failing_threads(),
        )


def resident_bytes() -> int:
    """Resident memory of this process, proc(5)."""
    pages = int(_STATM.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
