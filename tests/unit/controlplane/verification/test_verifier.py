"""When what differs is a difference: only if it persists, and if vCenter could be read."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from common.clock import Clock
from controlplane.domain.errors import OnDemandReadError
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.own.edges import VCenterRow
from controlplane.verification import verifier
from controlplane.verification.context import Readers
from controlplane.verification.findings import Findings, Place, Subject
from controlplane.verification.verifier import PAUSES, UNANNOUNCED_SECONDS, Verdict, Verifier
from tests.unit.controlplane.verification.test_comparison import THEN

SUBJECT = Subject("v-1", "VirtualMachine:vm-1", "web")
OTHER = Subject("v-1", "VirtualMachine:vm-2", "db")
One = tuple[Subject, str, str, str]
STATE: One = (SUBJECT, "instances.vm_state", "active", "stopped")
HASH: One = (SUBJECT, "objects.content_hash", "a", "b")


class FixedTables:
    """In place of the gateway database: one vCenter, and whether anything stands for it."""

    def __init__(self) -> None:
        self.parity: Any = THEN
        self.servers: list[object] = [object()]

    def vcenters(self) -> list[VCenterRow]:
        return [VCenterRow("v-1", "vcsim", "8", "1", "8", THEN, parity_at=self.parity)]

    def clusters(self, vcenter_uuid: str) -> list[object]:
        return []

    def images(self, vcenter_uuid: str) -> list[object]:
        return []

    def list_servers(self, vcenter_uuid: str) -> list[object]:
        return self.servers


class Looks:
    """What each look finds, in order, and how long was waited before it."""

    def __init__(self, *looks: list[One] | Exception) -> None:
        self._looks = iter(looks)
        self.slept: list[float] = []
        self.own = FixedTables()

    def __call__(self, *_: object) -> Findings:
        found = next(self._looks)
        if isinstance(found, Exception):
            raise found
        findings = Findings()
        for subject, name, expected, actual in found:
            findings.differ(subject, Place.NOVA_CELL, name, expected, actual)
        return findings

    def verify(self, wanted: Callable[[], bool] = lambda: True) -> list[Verdict]:
        readers = Readers(*cast(Any, (self.own, None, None, None, None, None)))
        judge = Verifier(readers, lambda _: [], Clock(), sleep=self.slept.append)
        return list(judge.verify(wanted))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Looks]:
    def make(*found: list[One] | Exception) -> Looks:
        made = Looks(*found)
        monkeypatch.setattr(verifier, "look", made)
        return made

    return make


def test_what_is_the_same_is_looked_at_once(looks: Callable[..., Looks]) -> None:
    made = looks([])
    (verdict,) = made.verify()
    assert (verdict.looks, verdict.differences, verdict.problem) == (1, [], "")
    assert made.slept == []


def test_what_differs_is_looked_at_again_until_it_is_gone(looks: Callable[..., Looks]) -> None:
    made = looks([STATE], [STATE], [])
    (verdict,) = made.verify()
    assert (verdict.looks, verdict.differences) == (3, [])
    assert made.slept == list(PAUSES[:2])


def test_what_persists_is_a_difference(looks: Callable[..., Looks]) -> None:
    made = looks(*[[STATE]] * (len(PAUSES) + 1))
    (verdict,) = made.verify()
    assert [one.field for one in verdict.differences] == ["instances.vm_state"]
    assert made.slept == list(PAUSES)


def test_what_differs_otherwise_each_time_is_a_change_under_way(
    looks: Callable[..., Looks],
) -> None:
    turned: One = (SUBJECT, "instances.vm_state", "stopped", "active")
    (verdict,) = looks([STATE], [turned]).verify()
    assert verdict.differences == []


def test_object_that_is_held_in_another_state_each_time_is_on_its_way(
    looks: Callable[..., Looks],
) -> None:
    after: One = (SUBJECT, "objects.content_hash", "b", "c")
    (verdict,) = looks([HASH, STATE], [after, STATE]).verify()
    assert (verdict.looks, verdict.differences) == (2, [])


def test_what_comes_later_is_left_to_the_next_verification(looks: Callable[..., Looks]) -> None:
    later: One = (OTHER, "instances.vm_state", "active", "stopped")
    (verdict,) = looks([STATE], [later]).verify()
    assert (verdict.looks, verdict.differences) == (2, [])


def test_what_vcenter_does_not_announce_gets_the_time_of_the_edges_next_pass(
    looks: Callable[..., Looks],
) -> None:
    made = looks(*[[HASH, STATE]] * (len(PAUSES) + 1), [])
    (verdict,) = made.verify()
    assert verdict.differences == []
    assert made.slept == [*PAUSES, UNANNOUNCED_SECONDS]
    other: One = (OTHER, "instances.vm_state", "active", "stopped")
    made = looks(*[[HASH, other]] * (len(PAUSES) + 1))
    (verdict,) = made.verify()
    assert len(verdict.differences) == 2
    assert made.slept == list(PAUSES)


@pytest.mark.parametrize(
    "error", [OnDemandReadError("edge site-1 is offline"), DatabaseUnavailableError("gone away")]
)
def test_what_could_not_be_looked_at_again_is_not_verified(
    looks: Callable[..., Looks], error: Exception
) -> None:
    (verdict,) = looks([STATE], error).verify()
    assert verdict.differences == []
    assert verdict.problem == str(error)


def test_first_sync_under_way_is_not_verified(looks: Callable[..., Looks]) -> None:
    made = looks()
    made.own.parity = None
    (verdict,) = made.verify()
    assert "first sync" in verdict.problem


def test_vcenter_that_left_with_its_edge_is_left_out(looks: Callable[..., Looks]) -> None:
    made = looks(OnDemandReadError("edge site-1 is offline"))
    made.own.servers = []
    assert made.verify() == []


def test_nothing_more_is_looked_at_when_nobody_waits_any_more(
    looks: Callable[..., Looks],
) -> None:
    assert looks().verify(lambda: False) == []
