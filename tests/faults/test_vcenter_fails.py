"""A vCenter that hangs, forgets, refuses or restarts: nothing of it leaves OpenStack."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyVmomi import vim

from tests.support.faults.deployed_site import (
    PARITY_SECONDS,
    SETTLE_SECONDS,
    DeployedSite,
    MakeSite,
)
from tests.support.waiting import eventually
from tools.servers.state import folder

pytestmark = pytest.mark.cloud

HANG_SECONDS = 120
"""A wait that vCenter does not end is given up after 60 s."""


@contextmanager
def nothing_leaves(site: DeployedSite) -> Iterator[None]:
    """Afterwards each server is the one that it was, whatever was done, and what is new follows."""
    before = site.in_cell()
    yield
    assert site.in_cell() == before, "the failure itself changes nothing"
    machine = site.vcenter.objects(vim.VirtualMachine)[0]
    site.vcenter.finish(site.vcenter.resize(machine, machine.config.hardware.numCPU % 8 + 1, 256))
    site.assert_equal()
    assert {one.uuid for one in site.in_cell()} == {one.uuid for one in before}


def state_of(site: DeployedSite) -> str:
    """Return the vCenter's state as `vsg-controlplane edges` tells it."""
    return str(site.edge().get("vcenter_state", ""))


def test_session_that_vcenter_ends_is_begun_anew(site: DeployedSite) -> None:
    with nothing_leaves(site):
        for _ in range(3):
            site.read_anew()


def test_refused_login_is_told_and_a_new_password_tried_at_once(site: DeployedSite) -> None:
    with nothing_leaves(site):
        site.vcenter.simulator.inject_fault("InvalidLogin", "Login")
        site.vcenter.end_other_sessions()
        eventually(lambda: state_of(site), "login_refused", SETTLE_SECONDS)
        message = site.edge()["vcenter_message"]
        assert "refuses the login" in message
        assert site.edge()["online"], "the link does not depend on vCenter"
        site.vcenter.simulator.clear_faults()
        password = folder("faults") / "vcenter-password"
        password.write_text(password.read_text())
        eventually(lambda: state_of(site), "connected", SETTLE_SECONDS)


def test_vcenter_that_hangs_is_told_and_waited_for(site: DeployedSite) -> None:
    with nothing_leaves(site):
        site.vcenter.simulator.suspend()
        try:
            eventually(lambda: state_of(site), "unreachable", HANG_SECONDS, poll=2)
            assert site.edge()["vcenter_message"]
        finally:
            site.vcenter.simulator.resume()
        eventually(lambda: state_of(site), "connected", SETTLE_SECONDS)


def test_vcenter_that_restarts_has_the_same_servers(make_site: MakeSite) -> None:
    with make_site(0, vm=15, ds=1) as site:
        site.configure(["*"])
        site.deployment.start()
        site.deployment.wait_for_parity(PARITY_SECONDS)
        site.assert_equal()
        with nothing_leaves(site):
            site.vcenter.simulator.stop()
            eventually(lambda: state_of(site), "unreachable", SETTLE_SECONDS)
            assert site.edge()["vcenter_message"]
            site.vcenter.restart()
            eventually(lambda: state_of(site), "connected", SETTLE_SECONDS)
            site.assert_equal()
