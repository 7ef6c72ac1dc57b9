"""Virtual machines that wait for what they refer to."""

from controlplane.inventory.model.topology import Waiting


def test_machine_waits_for_what_may_come_and_not_for_what_is_never_shown() -> None:
    waiting = Waiting()
    waiting.want("vm", ["folder", "network"], 10.0)
    assert waiting.worth_waiting("vm", ["folder"], 11.0, 3.0)
    assert not waiting.worth_waiting("vm", ["folder"], 14.0, 3.0)

    assert waiting.arrived("folder") == {"vm"}
    waiting.complete()

    assert not waiting.worth_waiting("other", ["network"], 11.0, 3.0)
    assert waiting.worth_waiting("other", ["folder"], 11.0, 3.0)
    assert waiting.arrived("network") == {"vm"}
