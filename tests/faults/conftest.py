"""Sites to break things at, and the seed of everything that is left to chance."""

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.faults.deployed_site import DEPLOYMENT, DeployedSite, MakeSite
from tests.support.faults.vcenter import VCenter
from tools.cloud.cloud import Cloud

OPTION = "--faults-seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, type=int, help="seed of the fault suite; else one by chance")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption(OPTION) is None:
        config.option.faults_seed = secrets.randbelow(1_000_000)


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: {OPTION}={config.getoption(OPTION)}"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The test's own randomness: the same in every run with the same seed."""
    return random.Random(f"{request.config.getoption(OPTION)} {request.node.name}")


@pytest.fixture(scope="session")
def make_site(
    request: pytest.FixtureRequest,
    cloud: Cloud,
    terminal: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> MakeSite:
    """Makes sites: `with make_site(300) as site:`; more keywords are vcsim's flags."""
    numbers = iter(range(request.config.getoption(OPTION) * 100, 2**62))

    @contextmanager
    def make(
        machines: int, in_first: int | None = None, **flags: str | int | float
    ) -> Iterator[DeployedSite]:
        DEPLOYMENT.stop()
        terminal(f"making a vCenter with {machines} virtual machines")
        vcenter = VCenter(next(numbers), **flags)
        try:
            half = machines // 2
            files = tmp_path_factory.mktemp("vcenter")
            vcenter.start(files, machines, half if in_first is None else in_first)
            site = DeployedSite(vcenter, cloud)
            try:
                yield site
            finally:
                # Also after a failure: what is left in OpenStack would fail all that follows.
                site.leave()
                site.close()
        finally:
            DEPLOYMENT.stop()
            vcenter.stop()

    return make


@pytest.fixture(scope="module")
def site(make_site: MakeSite) -> Iterator[DeployedSite]:
    """A site of 80 virtual machines in full service, for all tests of a module."""
    with make_site(80) as site:
        site.configure(["*"])
        site.deployment.start()
        site.wait_until_served()
        yield site
