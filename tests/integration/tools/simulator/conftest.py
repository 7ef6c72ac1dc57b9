"""A simulated vCenter for each file of tests."""

from collections.abc import Iterator

import pytest

from tests.integration.tools.simulator.vcenter_client import VCenterClient
from tools.servers.vcsim import Vcsim


@pytest.fixture(scope="module")
def vcenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterClient]:
    simulator = Vcsim(
        tmp_path_factory.mktemp("simulator") / "vcsim", cluster=2, host=2, vm=14, ds=2
    )
    simulator.start()
    try:
        client = VCenterClient(simulator)
        yield client
        client.close()
    finally:
        simulator.stop()
