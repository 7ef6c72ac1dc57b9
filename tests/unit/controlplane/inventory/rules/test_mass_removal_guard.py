"""Many virtual machines that go missing at once are held back."""

import pytest

from controlplane.inventory.rules.mass_removal_guard import MassRemovalGuard, MassRemovalLimits


@pytest.mark.parametrize(
    ("missing", "servers", "exceeded"),
    [
        (20, 100, False),
        (21, 100, True),
        (21, 210, False),
        (22, 210, True),
        (3, 3, True),
        (2, 3, False),
    ],
)
def test_guard_holds_back_a_whole_cluster_or_many_of_it(
    missing: int, servers: int, exceeded: bool
) -> None:
    assert MassRemovalLimits().exceeded(missing, servers) is exceeded


def test_only_what_goes_missing_at_once_counts() -> None:
    guard = MassRemovalGuard(MassRemovalLimits(fraction=0.0, count=1))
    guard.add("a", 0.0)
    assert guard.excess(10, 400.0) == ()
    guard.add("b", 400.0)
    assert guard.excess(10, 401.0) == ()
    guard.add("c", 402.0)
    assert guard.excess(10, 403.0) == ("b", "c")
    guard.discard("b")
    assert guard.excess(10, 403.0) == ()
