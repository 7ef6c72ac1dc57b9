"""Quota of projects that hold adopted servers: lifted at once, or named."""

import logging
import queue
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from common.background import ThreadMonitor
from common.log_fields import fields_of
from controlplane.domain.errors import NovaApiError
from controlplane.openstack.nova.quota import RESOURCES, QuotaKeeper, Quotas
from controlplane.store.errors import DatabaseUnavailableError
from tests.support.waiting import eventually_true

PATIENCE = 5.0


class ScriptedNova:
    """Nova's quota API: everything is limited to 10; projects in ``broken`` cannot be read.

    Of those in ``absurd`` it says nothing that makes sense.
    """

    def __init__(self) -> None:
        self.limits: dict[str, dict[str, int]] = {}
        self.broken: set[str] = set()
        self.absurd: set[str] = set()
        self.asked: queue.Queue[str] = queue.Queue()
        self.lifted: queue.Queue[tuple[str, dict[str, int]]] = queue.Queue()

    def quota(self, project_id: str) -> dict[str, dict[str, int]]:
        self.asked.put(project_id)
        if project_id in self.broken:
            raise NovaApiError("Nova's API cannot be reached")
        if project_id in self.absurd:
            return {}
        limits = dict.fromkeys(RESOURCES, 10) | self.limits.get(project_id, {})
        used = 10 if project_id == "full" else 1
        return {name: {"in_use": used, "limit": limit} for name, limit in limits.items()}

    def set_quota(self, project_id: str, limits: dict[str, int]) -> None:
        self.limits[project_id] = {**self.limits.get(project_id, {}), **limits}
        self.lifted.put((project_id, limits))


class Projects:
    """What the gateway database says; the first question fails where ``away`` is set."""

    def __init__(self, names: Collection[str], *, away: bool = False) -> None:
        self._names = names
        self._away = away

    def __call__(self) -> Collection[str]:
        if self._away:
            self._away = False
            raise DatabaseUnavailableError("no database")
        return self._names


@pytest.fixture
def nova() -> ScriptedNova:
    return ScriptedNova()


@pytest.fixture
def monitor() -> ThreadMonitor:
    return ThreadMonitor()


@pytest.fixture
def keepers(
    nova: ScriptedNova, monitor: ThreadMonitor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Starts keepers."""
    monkeypatch.setattr("controlplane.openstack.nova.quota.RETRY_SECONDS", 0.02)
    started: list[QuotaKeeper] = []

    def start(projects: Collection[str] = (), *, lift: bool = True, away: bool = False) -> Any:
        keeper = QuotaKeeper(Quotas(nova, None), Projects(projects, away=away), monitor, lift=lift)
        started.append(keeper)
        keeper.start()
        return keeper

    yield start
    for keeper in started:
        keeper.stop()


def test_project_that_holds_adopted_servers_is_lifted_before_it_is_full(
    nova: ScriptedNova, keepers: Any
) -> None:
    keepers(["roomy"])
    assert nova.lifted.get(timeout=PATIENCE) == ("roomy", dict.fromkeys(RESOURCES, -1))


def test_first_server_adopted_into_a_project_lifts_it_at_once_and_the_next_asks_nothing(
    nova: ScriptedNova, keepers: Any
) -> None:
    keeper = keepers()
    keeper.adopted({"new"})
    assert nova.lifted.get(timeout=PATIENCE)[0] == "new"
    assert nova.asked.get(timeout=PATIENCE) == "new"
    keeper.adopted({"new"})
    keeper.adopted({"newer"})
    assert nova.asked.get(timeout=PATIENCE) == "newer"


def test_only_what_is_limited_is_lifted(nova: ScriptedNova, keepers: Any) -> None:
    nova.limits["partly"] = {"instances": -1, "cores": -1}
    nova.limits["free"] = dict.fromkeys(RESOURCES, -1)
    keepers(["free", "partly"])
    assert nova.lifted.get(timeout=PATIENCE) == ("partly", {"ram": -1})
    assert nova.lifted.empty()


def test_project_that_makes_trouble_is_tried_again_and_holds_up_no_other(
    nova: ScriptedNova, keepers: Any
) -> None:
    nova.broken = {"a-unknown"}
    keepers(["a-unknown", "b-sound"])
    assert nova.lifted.get(timeout=PATIENCE)[0] == "b-sound"
    nova.broken = set()
    assert nova.lifted.get(timeout=PATIENCE)[0] == "a-unknown"


def test_error_that_nobody_expected_turns_health_red_is_repeated_and_holds_up_no_other(
    nova: ScriptedNova, monitor: ThreadMonitor, keepers: Any
) -> None:
    nova.absurd = {"a-absurd"}
    keepers(["a-absurd", "b-sound"])
    assert nova.lifted.get(timeout=PATIENCE)[0] == "b-sound"
    eventually_true(lambda: monitor.failures().get("quota", 0) > 1, seconds=PATIENCE)
    nova.absurd = set()
    assert nova.lifted.get(timeout=PATIENCE)[0] == "a-absurd"
    eventually_true(lambda: not monitor.down(), seconds=PATIENCE)


def test_own_database_that_is_away_is_asked_again(nova: ScriptedNova, keepers: Any) -> None:
    keepers(["later"], away=True)
    assert nova.lifted.get(timeout=PATIENCE)[0] == "later"


def test_limit_that_comes_back_is_lifted_again(
    nova: ScriptedNova, keepers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.openstack.nova.quota.CHECK_SECONDS", 0.02)
    keepers(["watched"])
    assert nova.lifted.get(timeout=PATIENCE)[0] == "watched"
    nova.limits["watched"] = {"instances": -1, "cores": 5, "ram": -1}
    assert nova.lifted.get(timeout=PATIENCE) == ("watched", {"cores": -1})


def test_without_lifting_a_project_at_its_limit_is_named_and_left_alone(
    nova: ScriptedNova, keepers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        keeper = keepers(["full", "roomy"], lift=False)
        assert {nova.asked.get(timeout=PATIENCE) for _ in range(2)} == {"full", "roomy"}
        keeper.stop()
    assert nova.lifted.empty()
    named = [
        str(fields_of(one)["why"])
        for one in caplog.records
        if one.message == "quota reached by adoption"
    ]
    assert len(named) == len(RESOURCES)
    assert all("project full uses 10" in why for why in named)
