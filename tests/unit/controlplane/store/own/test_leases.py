"""A lease fences who held it before."""

from datetime import datetime, timedelta

from controlplane.store.database import Database
from controlplane.store.own import leases

NOW = datetime(2026, 11, 22, 12)  # noqa: DTZ001 - as the columns hold it


def test_lease_changes_hands_only_after_it_expired_and_fences(own: Database) -> None:
    minute = timedelta(minutes=1)

    def acquire(holder: str, now: datetime) -> leases.LeaseRow:
        return own.run(lambda c: leases.acquire(c, "vcenter:1", holder, now, minute))

    first = acquire("edge-1", NOW)
    assert (first.holder, first.fencing_epoch) == ("edge-1", 1)
    assert acquire("edge-2", NOW).holder == "edge-1"
    assert acquire("edge-1", NOW + minute / 2).expires_at == NOW + minute * 1.5
    taken = acquire("edge-2", NOW + 2 * minute)
    assert (taken.holder, taken.fencing_epoch) == ("edge-2", 2)

    own.run(lambda c: leases.release(c, "vcenter:1", "edge-2", NOW + 2 * minute))
    assert acquire("edge-1", NOW + 2 * minute).fencing_epoch == 3
