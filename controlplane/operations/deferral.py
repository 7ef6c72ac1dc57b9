"""Whether a delete that was refused because the edge was offline is carried out now. Pure.

The user asked for the delete, so it is completed; but much may have happened since. Any sign that
the server is wanted after all withdraws it, and so does any doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from common.timestamps import unix_seconds
from controlplane.domain.ports import StoredVirtualMachine
from controlplane.domain.records import ServerAction, ServerFacts
from controlplane.store.own.operations import OperationRow

DELETES = frozenset({"delete", "forceDelete"})
"""Nova's names of deletes among a server's actions."""


class DeferralStep(Enum):
    """What to do about a deferred delete."""

    ASK = "ask"
    """Ask Nova to delete the server."""
    WAIT = "wait"
    """Look again soon."""
    WITHDRAW = "withdraw"
    """Never carry it out."""
    GONE = "gone"
    """There is nothing left to delete."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A step, and why; the reason is for a person."""

    step: DeferralStep
    reason: str = ""


def expired(row: OperationRow, now: float, limit: float) -> Decision | None:
    """Decide about a delete's age: None while it is at most ``limit`` seconds old."""
    if now - unix_seconds(row.created_at) <= limit:
        return None
    return Decision(DeferralStep.WITHDRAW, f"the edge was not back within {limit / 3600:.3g} hours")


def decide(
    row: OperationRow, server: ServerFacts | None, stored: StoredVirtualMachine | None
) -> Decision:
    """Decide about a delete now that the edge is back and the inventory is complete.

    ``server`` is None when Nova has none; ``stored`` is None when no managed virtual machine stands
    behind it at present.
    """
    if server is None:
        return Decision(DeferralStep.GONE, "the server is gone")
    used = _used_since(row, server.actions)
    if used:
        return Decision(DeferralStep.WITHDRAW, used)
    if server.task_state is not None or not server.service_up or stored is None:
        return Decision(DeferralStep.WAIT)
    if server.vm_state != "error":
        return Decision(
            DeferralStep.WITHDRAW, f"the server is {server.vm_state} since, and not in error"
        )
    booted = stored.virtual_machine.booted_at.ToNanoseconds() / 1e9
    if booted > unix_seconds(row.created_at):
        return Decision(DeferralStep.WITHDRAW, "its virtual machine was started in vCenter since")
    return Decision(DeferralStep.ASK)


def _used_since(row: OperationRow, actions: Sequence[ServerAction]) -> str:
    """Describe what was done with the server since; empty if nothing was."""
    for action in actions:
        if action.request_id == row.request_id:
            return ""
        if action.name not in DELETES:
            return f"{action.name} was requested for the server since"
    return "Nova no longer lists the request"
