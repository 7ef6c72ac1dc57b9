"""The authority's certificates: made right, refused when wrong, verifiable by openssl."""

import datetime
import json
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.__main__ import main
from certs.authority import Authority
from certs.bundle import EdgeBundle, format_address, parse_address
from certs.credentials import load_tls_material
from certs.errors import (
    AuthorityExistsError,
    CertificateFileError,
    IdentityError,
    InvalidNameError,
)
from certs.files import read_certificate
from certs.identity import Role, identity_of, identity_of_peer

NOW = datetime.datetime(2026, 5, 4, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", "acme", lambda: NOW)


def stamp(authority: Authority, directory: Path, edge: str = "site-1") -> EdgeBundle:
    bundle = EdgeBundle(directory, authority.customer, edge, "gateway.acme.example:443", "g")
    bundle.write(authority.certificate_pem, authority.issue_edge(edge))
    return bundle


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)


def test_openssl_verifies_an_edge_as_client_and_not_as_server(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "acme")
    stamp(authority, tmp_path / "edge")
    verify = ("verify", "-x509_strict", "-CAfile", tmp_path / "ca/ca.pem", "-purpose")
    certificate = tmp_path / "edge/edge.pem"
    assert openssl(*verify, "sslclient", certificate).returncode == 0
    assert openssl(*verify, "sslserver", certificate).returncode != 0


def test_openssl_verifies_the_server_certificate_for_the_names_asked_for(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "acme")
    authority.issue_server(["gateway.acme.example", "192.0.2.7"]).write(
        tmp_path / "server.pem", tmp_path / "server.key"
    )
    verify = ("verify", "-x509_strict", "-CAfile", tmp_path / "ca/ca.pem", "-purpose", "sslserver")
    for option, name, expected in (
        ("-verify_hostname", "gateway.acme.example", 0),
        ("-verify_hostname", "localhost", 0),
        ("-verify_ip", "192.0.2.7", 0),
        ("-verify_hostname", "gateway.other.example", 2),
    ):
        assert openssl(*verify, option, name, tmp_path / "server.pem").returncode == expected


def test_a_certificate_says_who_its_holder_is(authority: Authority) -> None:
    credential = authority.issue_edge("site-1", datetime.timedelta(days=3))
    identity = identity_of_peer({"x509_pem_cert": [credential.certificate_pem]})
    assert (identity.customer, identity.role, identity.name) == ("acme", Role.EDGE, "site-1")
    assert identity.not_before == NOW - datetime.timedelta(minutes=5)
    assert identity.not_after == NOW + datetime.timedelta(days=3)
    certificate = x509.load_pem_x509_certificate(credential.certificate_pem)
    assert int(identity.serial, 16) == certificate.serial_number
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_control_plane_and_operator_have_roles_of_their_own(authority: Authority) -> None:
    server = x509.load_pem_x509_certificate(authority.issue_server(["h"]).certificate_pem)
    operator = x509.load_pem_x509_certificate(authority.issue_operator("ann").certificate_pem)
    assert identity_of(server).role is Role.CONTROL_PLANE
    assert (identity_of(operator).role, identity_of(operator).name) == (Role.OPERATOR, "ann")


def test_no_certificate_and_an_authority_are_no_identity(authority: Authority) -> None:
    with pytest.raises(IdentityError, match="no certificate"):
        identity_of_peer({})
    with pytest.raises(IdentityError, match="spiffe://acme"):
        identity_of(authority.certificate)


def test_keys_are_readable_by_their_owner_alone(authority: Authority, tmp_path: Path) -> None:
    stamp(authority, tmp_path / "edge")
    for key in (authority.directory / "ca.key", tmp_path / "edge/edge.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_an_authority_is_never_overwritten(authority: Authority) -> None:
    before = (authority.directory / "ca.key").read_bytes()
    with pytest.raises(AuthorityExistsError, match=r"ca\.pem: exists already"):
        Authority.create(authority.directory, "acme")
    (authority.directory / "ca.pem").unlink()
    with pytest.raises(AuthorityExistsError, match=r"ca\.key: exists already"):
        Authority.create(authority.directory, "acme")
    assert (authority.directory / "ca.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-a", "a" * 65, "ä"])
def test_a_name_that_would_confuse_the_identity_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(InvalidNameError, match="expected letters"):
        authority.issue_edge(name)
    assert authority.index.entries() == []


@pytest.mark.parametrize("customer", ["", "Acme", "a/b", "a_b", ".a"])
def test_a_customer_that_is_no_trust_domain_is_refused(tmp_path: Path, customer: str) -> None:
    with pytest.raises(InvalidNameError, match="customer"):
        Authority.create(tmp_path / "ca", customer)


def test_a_bundle_reads_back_as_it_was_written(authority: Authority, tmp_path: Path) -> None:
    bundle = stamp(authority, tmp_path / "edge")
    assert EdgeBundle.load(tmp_path / "edge") == bundle
    assert bundle.tls_material().identity.name == "site-1"


def test_files_that_do_not_belong_together_are_named(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "other", lambda: NOW)
    first, second = stamp(authority, tmp_path / "one"), stamp(authority, tmp_path / "two")
    foreign = stamp(other, tmp_path / "three")
    one = first.directory
    with pytest.raises(CertificateFileError, match=r"two/edge\.key: is not the key of"):
        load_tls_material(
            one / "ca.pem", one / "edge.pem", second.directory / "edge.key", Role.EDGE
        )
    with pytest.raises(CertificateFileError, match=r"edge\.pem: was not issued by .*three/ca\.pem"):
        load_tls_material(
            foreign.directory / "ca.pem", one / "edge.pem", one / "edge.key", Role.EDGE
        )
    with pytest.raises(CertificateFileError, match="expected one of role control-plane"):
        load_tls_material(one / "ca.pem", one / "edge.pem", one / "edge.key", Role.CONTROL_PLANE)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("customer = ", "expected TOML"),
        ('customer = "acme"\n', "key 'edge'"),
        ('customer = ""\n', "key 'customer'"),
    ],
)
def test_a_wrong_bundle_names_file_and_key(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "bundle.toml").write_text(content)
    with pytest.raises(CertificateFileError, match=rf"bundle\.toml: .*{problem}"):
        EdgeBundle.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("gw.example", "gw.example", 443),
        ("gw.example:9443", "gw.example", 9443),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
        ("2001:db8::1", "2001:db8::1", 443),
        ("[2001:db8::1]", "2001:db8::1", 443),
    ],
)
def test_addresses_are_split_and_joined(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)
    assert parse_address(format_address(host, port)) == (host, port)


@pytest.mark.parametrize("text", ["", ":443", "gw:", "gw:0", "gw:65536", "gw:https"])
def test_an_address_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError, match="expected HOST:PORT"):
        parse_address(text)


def test_the_commands_make_everything_and_list_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca, edge = str(tmp_path / "ca"), str(tmp_path / "edge")

    def clock() -> datetime.datetime:
        return NOW

    assert main(["init", "--customer", "acme", "--directory", ca], clock) == 0
    assert main(["server", "--directory", ca, "--host", "gw.example"], clock) == 0
    stamping = ["stamp", "--directory", ca, "--edge", "site-1", "--control-plane", "gw.example"]
    assert main([*stamping, "--output", edge, "--days", "2"], clock) == 0
    assert EdgeBundle.load(Path(edge)).control_plane == "gw.example:443"
    capsys.readouterr()
    assert main(["list", "--directory", ca, "--format", "json"], clock) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(entry["role"], entry["name"]) for entry in listed] == [
        ("operator", "admin"),
        ("control-plane", "control-plane"),
        ("edge", "site-1"),
    ]
    assert listed[2]["serial"] == identity_of(read_certificate(Path(edge, "edge.pem"))).serial
    later = NOW + datetime.timedelta(days=3)
    assert main(["list", "--directory", ca], lambda: later) == 0
    assert [line.split("\t")[-1] for line in capsys.readouterr().out.splitlines()] == [
        "State", "valid", "valid", "expired",
    ]  # fmt: skip


def test_a_command_that_fails_says_which_file_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--directory", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"vsg-certs: {tmp_path}/ca.pem: cannot be read: No such file or directory\n"
    )
    assert main(["init", "--customer", "acme", "--directory", str(tmp_path)]) == 0
    (tmp_path / "index.jsonl").write_text("{}\n")
    assert main(["list", "--directory", str(tmp_path)]) == 1
    assert "index.jsonl: line 1 is not an entry" in capsys.readouterr().err
