"""Storms of changes in vCenter, and crashes in the middle of them: nothing is lost."""

import random
from collections.abc import Callable

import pytest

from tests.support.faults.deployed_site import WORKER_SECONDS, DeployedSite
from tests.support.faults.storm import Storm
from tests.support.faults.victims import VICTIMS

pytestmark = pytest.mark.cloud

RATE = 30
CHANGES = 240
FAST = 200
FAST_SECONDS = 10


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("edge", marks=pytest.mark.brief),
        "control_plane",
        "worker",
        pytest.param("mariadb", marks=pytest.mark.brief),
        "rabbitmq",
    ],
)
def test_storm_survives_the_kill_of(name: str, site: DeployedSite, chance: random.Random) -> None:
    victim, storm, before = VICTIMS[name](site), Storm(site.vcenter, chance), site.vcenter.sees()
    storm.start(CHANGES, RATE)
    storm.wait_for(1 / 3)
    victim.kill()
    try:
        storm.wait_for(2 / 3)
    finally:
        victim.restart()
    storm.finish()
    site.deployment.wait_for_workers(WORKER_SECONDS)
    site.assert_equal()
    assert_much_has_changed(before, site)
    site.assert_obeyed()


def test_storm_of_200_changes_a_second_loses_nothing(
    site: DeployedSite, chance: random.Random, terminal: Callable[[str], None]
) -> None:
    storm, before = Storm(site.vcenter, chance), site.vcenter.sees()
    storm.start(FAST * FAST_SECONDS, FAST)
    reached = storm.finish()
    terminal(f"{reached:.0f} changes a second")
    site.assert_equal()
    assert_much_has_changed(before, site)


def assert_much_has_changed(before: list[object], site: DeployedSite) -> None:
    """Tell a storm from a calm: most machines are not what they were."""
    unchanged = set(before) & set(site.vcenter.sees())
    assert len(unchanged) < len(before) / 2
