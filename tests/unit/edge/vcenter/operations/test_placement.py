"""Where a clone goes, and why not elsewhere."""

from typing import Any

import pytest
from pyVmomi import vim

from edge.vcenter.operations.errors import NoDatastoreError
from edge.vcenter.operations.placement import Need, choose_datastore

GIB = 1 << 30


def datastore(name: str, free_gib: float, **other: Any) -> tuple[Any, dict[str, Any]]:
    return vim.Datastore(name), {
        "name": name,
        "summary.accessible": True,
        "summary.freeSpace": int(free_gib * GIB),
        "summary.maintenanceMode": "normal",
        "summary.multipleHostAccess": True,
        **{path.replace("_", ".", 1): value for path, value in other.items()},
    }


def choose(need: Need, *datastores: tuple[Any, dict[str, Any]], unmounted: str = "") -> str:
    found = dict(datastores)
    host = {"datastore": [each for each in found if each._moId != unmounted]}
    return str(choose_datastore("cluster", found, {vim.HostSystem("h"): host}, need)._moId)


def test_the_preferred_datastore_wins_while_it_has_room() -> None:
    small, large = datastore("small", 20), datastore("large", 500)
    assert choose(Need(10 * GIB, preferred="small"), small, large) == "small"
    assert choose(Need(30 * GIB, preferred="small"), small, large) == "large"


def test_a_shared_datastore_is_better_than_a_roomier_local_one() -> None:
    local = datastore("local", 500, summary_multipleHostAccess=False)
    assert choose(Need(10 * GIB), local, datastore("shared", 50)) == "shared"
    assert choose(Need(100 * GIB), local, datastore("shared", 50)) == "local"


def test_a_datastore_that_cannot_be_used_is_passed_over_with_the_reason() -> None:
    with pytest.raises(NoDatastoreError) as refusal:
        choose(
            Need(10 * GIB, patterns=["ok-*", "lost"]),
            datastore("ok-full", 3),
            datastore("ok-in-maintenance", 50, summary_maintenanceMode="inMaintenance"),
            datastore("ok-broken", 50, summary_accessible=False),
            datastore("other", 50),
            datastore("lost", 50),
            unmounted="lost",
        )
    message = str(refusal.value)
    for reason in (
        "ok-full: 3.0 GiB free",
        "ok-in-maintenance: in maintenance",
        "ok-broken: not accessible",
        "other: not among those allowed",
        "lost: not accessible",
    ):
        assert reason in message
