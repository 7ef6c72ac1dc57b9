"""Which proxy leads to the control plane."""

import pytest

from edge.config import ControlPlaneSettings
from edge.link.proxy import Proxy, choose_proxy

FOLLOW = ControlPlaneSettings("environment")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"https_proxy": "http://p:3128"}, Proxy("p", 3128)),
        ({"HTTPS_PROXY": "http://p:3128"}, Proxy("p", 3128)),
        ({"https_proxy": "p:3128"}, Proxy("p", 3128)),
        ({"grpc_proxy": "http://g:1", "https_proxy": "http://p:2"}, Proxy("g", 1)),
        ({"https_proxy": "http://u%40x:p%3Aw@p:3128"}, Proxy("p", 3128, "u@x", "p:w")),
        ({"https_proxy": "http://p:1", "no_proxy": "gw.example.com"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": ".example.com"}, None),
        ({"https_proxy": "http://p:1", "NO_PROXY": "a, *.example.com"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "EXAMPLE.com"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "w.example.com, ,10.0.0.0/8"}, Proxy("p", 1)),
    ],
)
def test_proxy_of_the_environment(environment: dict[str, str], expected: Proxy | None) -> None:
    assert choose_proxy(FOLLOW, "gw.example.com", environment) == expected


def test_no_proxy_by_network() -> None:
    environment = {"https_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}
    assert choose_proxy(FOLLOW, "10.1.2.3", environment) is None
    assert choose_proxy(FOLLOW, "11.1.2.3", environment) == Proxy("p", 1)


def test_password_of_a_proxy_is_escaped_for_grpc_and_in_no_text() -> None:
    proxy = Proxy("p", 3128, "me@x", "a:b/c")
    assert proxy.url == "http://me%40x:a%3Ab%2Fc@p:3128"
    assert "a:b/c" not in f"{proxy} {proxy!r}"
