"""An answer that breaks off in the middle moves nothing on: no change in its lost half is missed.

Before vcsim stands a relay that can lose its connection after any byte of an answer.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import ManagedSettings
from edge.vcenter.client import faults
from tests.support.edge_vcenter_site import Follower, VCenterSite
from tests.support.restricted_vcenter import RestrictedVCenter
from tests.support.servers import StartVcsim
from vsphere_gateway.v1 import inventory_pb2


@pytest.fixture
def relay(vcsim: StartVcsim) -> Iterator[RestrictedVCenter]:
    standing = RestrictedVCenter(vcsim(vm=4))
    yield standing
    standing.close()


@pytest.fixture
def site(relay: RestrictedVCenter, tmp_path: Path) -> Iterator[VCenterSite]:
    opened = VCenterSite(relay, tmp_path, ManagedSettings(("*",)))  # type: ignore[arg-type]
    yield opened
    opened.close()


def test_change_in_the_lost_half_of_an_answer_is_told_after_the_next_read(
    site: VCenterSite, relay: RestrictedVCenter
) -> None:
    first, second, third = site.machines()[:3]
    follower = Follower(site.collector(polling_seconds=600.0))
    follower.start()
    # The first state of the watch has been told once an announced change has.
    site.reconfigure(third, annotation="announced")
    follower.wait(lambda: follower.reported)
    relay.cut_short(asked=b"WaitForUpdatesEx", told=b"<changeSet>")
    site.finish(first.Rename_Task("renamed-1"))
    site.finish(second.Rename_Task("renamed-2"))
    assert isinstance(follower.wait_for_end(), faults.TruncatedAnswerError)
    assert relay.since_cut is not None
    assert not any(b"WaitForUpdatesEx" in each for each in relay.since_cut), "the version moved on"
    assert not follower.has("renamed-1"), "a fragment was read"
    with site.following() as again:
        assert again.has("renamed-1")
        assert again.has("renamed-2")


@pytest.mark.parametrize("asked", [b"RetrievePropertiesEx", b"CreateContainerView"])
def test_full_read_that_breaks_off_is_never_complete(
    site: VCenterSite, relay: RestrictedVCenter, asked: bytes
) -> None:
    relay.cut_short(asked=asked, told=b"<returnval")
    updates = site.collector().read_once(threading.Event())
    with pytest.raises(faults.TruncatedAnswerError):
        assert not any(update.complete for update in updates)
    assert relay.since_cut is not None


def test_call_that_breaks_off_is_an_error_and_the_next_one_works(
    site: VCenterSite, relay: RestrictedVCenter
) -> None:
    root = inventory_pb2.ObjectReference(type="Folder", value="group-d1")
    folder = site.session.managed_object(root)
    relay.cut_short(asked=b"group-d1", told=b"<returnval")
    with pytest.raises(faults.TruncatedAnswerError):
        folder.name  # noqa: B018
    assert folder.name == "Datacenters"
