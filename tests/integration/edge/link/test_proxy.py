"""The link through a real CONNECT proxy, and around it."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.config import ControlPlaneSettings, Secret
from edge.errors import ControlPlaneUnreachableError
from edge.link.diagnosis import diagnose
from edge.link.link import Dialer
from tests.support.cable import Cable
from tests.support.customer import Customer
from tests.support.link_ends import ControlPlaneEnd, EdgeEnd
from tests.support.vcenter_truth import VCenterTruth

MakeEdge = Callable[..., EdgeEnd]
FOLLOW = ControlPlaneSettings("environment")


@pytest.fixture
def proxy() -> Iterator[Cable]:
    """A proxy that lets everybody through."""
    proxy = Cable()
    yield proxy
    proxy.close()


def reaches_parity(control_plane: ControlPlaneEnd, edge: EdgeEnd) -> None:
    edge.start().read_vcenter()
    control_plane.pipeline.wait(lambda: control_plane.pipeline.receiver.parities)


def test_proxy_of_the_environment_is_used(
    control_plane: ControlPlaneEnd, proxy: Cable, make_edge: MakeEdge
) -> None:
    environment = {"https_proxy": f"http://127.0.0.1:{proxy.port}"}
    edge = make_edge(
        control_plane.port, VCenterTruth({"vm-1": "a"}), settings=FOLLOW, environment=environment
    )
    reaches_parity(control_plane, edge)
    assert proxy.connects[0] == f"127.0.0.1:{control_plane.port}"


@pytest.mark.parametrize("exception", ["127.0.0.1", "127.0.0.0/8", "*", "other, 127.0.0.1"])
def test_no_proxy_goes_around_it(
    control_plane: ControlPlaneEnd, proxy: Cable, make_edge: MakeEdge, exception: str
) -> None:
    environment = {"https_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": exception}
    edge = make_edge(
        control_plane.port, VCenterTruth({"vm-1": "a"}), settings=FOLLOW, environment=environment
    )
    reaches_parity(control_plane, edge)
    assert not proxy.connects


def test_proxy_none_ignores_the_environment(
    control_plane: ControlPlaneEnd,
    proxy: Cable,
    make_edge: MakeEdge,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    edge = make_edge(
        control_plane.port,
        VCenterTruth({"vm-1": "a"}),
        settings=ControlPlaneSettings("none"),
        environment={"https_proxy": f"http://127.0.0.1:{proxy.port}"},
    )
    reaches_parity(control_plane, edge)
    assert not proxy.connects


def test_fixed_proxy_with_a_password(
    control_plane: ControlPlaneEnd, make_edge: MakeEdge, tmp_path: Path
) -> None:
    password = "pa:ss@w/ord"
    token = base64.b64encode(f"edge:{password}".encode()).decode()
    proxy = Cable(authorization=f"Basic {token}")
    edge = make_edge(
        control_plane.port,
        VCenterTruth({"vm-1": "a"}),
        settings=fixed(proxy, tmp_path, password),
    )
    reaches_parity(control_plane, edge)
    assert proxy.connects
    proxy.close()


def test_proxy_that_refuses_the_password_is_named(
    control_plane: ControlPlaneEnd, acme: Customer, tmp_path: Path
) -> None:
    proxy = Cable(authorization="Basic something-else")
    dialer = Dialer(acme.bundle("site-1", control_plane.port), fixed(proxy, tmp_path, "wrong"), {})
    error = diagnose(*dialer.look_up())
    assert isinstance(error, ControlPlaneUnreachableError)
    assert f"the proxy http://127.0.0.1:{proxy.port}" in str(error)
    assert "407" in str(error)
    assert "wrong" not in str(error)
    proxy.close()


def fixed(proxy: Cable, folder: Path, password: str) -> ControlPlaneSettings:
    file = folder / "proxy-password"
    file.write_text(f"{password}\n")
    return ControlPlaneSettings("fixed", f"http://127.0.0.1:{proxy.port}", "edge", Secret(file))
