"""A control plane is not assembled of a configuration that is wrong."""

from pathlib import Path

import pytest

from certs.authority import Authority
from controlplane.assembly import ControlPlane
from controlplane.config.file import load
from controlplane.domain.errors import ConfigurationError


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[adoption]\nrules = web=x\n", r"\[adoption\] rules: expected folder:/path=project"),
        ("[adoption]\nrules_file = /nowhere/rules\n", r"\[adoption\] rules_file: /nowhere/rules"),
        ("[adoption]\ncluster_policy = x\n", r"\[adoption\] cluster_policy: expected"),
        ("[admin]\nbind_address = 0.0.0.0\n", r"\[admin\] bind_address: expected a loopback"),
        ("[gateway]\nca = /nowhere/ca.pem\n", r"\[gateway\] certificate: .*/nowhere/ca.pem"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_found_before_anything_starts(
    tmp_path: Path, content: str, problem: str
) -> None:
    ca = tmp_path / "ca"
    authority = Authority.create(ca, "acme")
    authority.issue_server(["gw"]).write(ca / "server.pem", ca / "server.key")
    config = tmp_path / "controlplane.conf"
    gateway = {"ca": ca / "ca.pem", "certificate": ca / "server.pem", "key": ca / "server.key"}
    options = "".join(f"{key} = {value}\n" for key, value in gateway.items())
    config.write_text(f"[standalone]\ndirectory = {tmp_path}\n[gateway]\n{options}{content}")
    with pytest.raises(ConfigurationError, match=rf"^{config}: {problem}"):
        ControlPlane(load([config]), standalone=True)
