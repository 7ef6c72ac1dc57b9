"""Privileges that the vCenter user lacks are named, with the object."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import ManagedSettings
from edge.vcenter.client import faults
from edge.vcenter.client.privileges import ALL_PRIVILEGES, ON_NETWORKS, READ, missing_privileges
from edge.vcenter.client.session import VCenterSession
from tests.support.edge_vcenter_site import PATIENCE, vcenter_settings
from tests.support.servers import StartVcsim
from tools.servers.vcsim import Vcsim

MANAGED = ManagedSettings(("DC0_C0",))


@pytest.fixture
def simulator(shared_vcsim: StartVcsim) -> Vcsim:
    return shared_vcsim(cluster=2, host=2, vm=3)


@pytest.fixture
def session(simulator: Vcsim, tmp_path: Path) -> Iterator[VCenterSession]:
    opened = VCenterSession(vcenter_settings(simulator, tmp_path))
    opened.connect()
    yield opened
    simulator.clear_faults()
    opened.close()


def deny(session: VCenterSession, monkeypatch: pytest.MonkeyPatch, privilege: str) -> list[str]:
    """Change what vCenter answers, since vcsim grants everything; return what was asked for."""
    soap = session.soap
    asked: list[str] = []

    def changed(envelope: bytes, deadline_seconds: float = PATIENCE) -> bytes:
        answer = soap(envelope, deadline_seconds)
        asked.extend(each.decode() for each in re.findall(rb"<privId>([^<]+)</privId>", envelope))
        granted = f"<privId>{privilege}</privId><isGranted>true".encode()
        denied = granted.replace(b"true", b"false")
        return answer.replace(granted, denied)

    monkeypatch.setattr(session, "soap", changed)
    return asked


def test_nothing_is_missing_when_everything_is_granted(session: VCenterSession) -> None:
    assert missing_privileges(session, MANAGED) == []


@pytest.mark.parametrize(
    ("privilege", "names"),
    [
        ("System.Read", {"Datacenters"}),
        ("Resource.AssignVMToPool", {"DC0_C0"}),
        ("VirtualMachine.Interact.PowerOff", {"DC0/vm"}),
        ("Datastore.AllocateSpace", {"LocalDS_0"}),
        ("Network.Assign", {"VM Network", "DC0_DVPG0", "DVS0-DVUplinks-8"}),
    ],
)
def test_missing_privilege_is_named_with_its_objects(
    session: VCenterSession, monkeypatch: pytest.MonkeyPatch, privilege: str, names: set[str]
) -> None:
    deny(session, monkeypatch, privilege)
    missing = missing_privileges(session, MANAGED)
    assert {each.privileges for each in missing} == {(privilege,)}
    # A switch names its uplink port group with a number of its own.
    assert {
        re.sub(r"\d+$", "8", each.name) if "Uplinks" in each.name else each.name for each in missing
    } == names


def test_every_privilege_is_asked_for(
    session: VCenterSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = deny(session, monkeypatch, "")
    missing_privileges(session, MANAGED)
    assert set(asked) == set(ALL_PRIVILEGES)


def test_without_a_managed_cluster_reading_alone_is_asked_for(
    session: VCenterSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = deny(session, monkeypatch, "")
    missing_privileges(session, ManagedSettings(("prod-*",)))
    assert set(asked) == set(READ)
    assert not set(asked) & set(ON_NETWORKS)


def test_vcenter_that_does_not_tell_is_an_error(session: VCenterSession, simulator: Vcsim) -> None:
    simulator.inject_fault("NoPermission", "HasPrivilegeOnEntities")
    with pytest.raises(faults.PermissionDeniedError):
        missing_privileges(session, MANAGED)
