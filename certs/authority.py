"""The customer's certificate authority: a key, a certificate and an index in one directory."""

import dataclasses
import datetime
import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.errors import AuthorityExistsError, CertificateFileError, InvalidNameError
from certs.files import (
    PRIVATE_MODE,
    PUBLIC_MODE,
    certificate_pem,
    key_pem,
    read_certificate,
    read_key,
    write_file,
)
from certs.identity import Role, customer_of, customer_uri, identity_of, identity_uri
from certs.index import Index

Clock = Callable[[], datetime.datetime]

CA_CERTIFICATE_FILE = "ca.pem"
CA_KEY_FILE = "ca.key"
INDEX_FILE = "index.jsonl"

CA_LIFETIME = datetime.timedelta(days=3653)
DEFAULT_LIFETIME = datetime.timedelta(days=365)
CLOCK_SKEW = datetime.timedelta(minutes=5)
"""NotBefore lies this far back, so that a peer whose clock is late takes the certificate."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""In every server certificate: the admin listener has the same one."""


def utc_now() -> datetime.datetime:
    """The present time; the clock of everything but tests."""
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, both in PEM form."""

    certificate_pem: bytes
    key_pem: bytes

    def write(self, certificate: Path, key: Path) -> None:
        """Write both files, the key readable by its owner alone."""
        write_file(key, self.key_pem, PRIVATE_MODE)
        write_file(certificate, self.certificate_pem, PUBLIC_MODE)


class Authority:
    """Issues certificates for one customer."""

    def __init__(self, directory: Path, clock: Clock = utc_now) -> None:
        """Open the authority in ``directory``. Raises ``CertificateFileError``."""
        self.directory = directory
        self._clock = clock
        self.certificate = read_certificate(directory / CA_CERTIFICATE_FILE)
        self._key = read_key(directory / CA_KEY_FILE)
        if self._key.public_key() != self.certificate.public_key():
            raise CertificateFileError(
                directory / CA_KEY_FILE, f"does not belong to {directory / CA_CERTIFICATE_FILE}"
            )
        self.customer = customer_of(self.certificate)
        self.index = Index(directory / INDEX_FILE)

    @classmethod
    def create(cls, directory: Path, customer: str, clock: Clock = utc_now) -> "Authority":
        """Make a new authority. Raises ``AuthorityExistsError`` rather than overwrite one."""
        certificate_path, key_path = directory / CA_CERTIFICATE_FILE, directory / CA_KEY_FILE
        for path in (certificate_path, key_path, directory / INDEX_FILE):
            if path.exists():
                raise AuthorityExistsError(
                    path, "exists already; an authority is made once, choose another directory"
                )
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(customer, key, clock())
        write_file(key_path, key_pem(key), PRIVATE_MODE)
        write_file(certificate_path, certificate_pem(certificate), PUBLIC_MODE)
        write_file(directory / INDEX_FILE, b"", PUBLIC_MODE)
        return cls(directory, clock)

    @property
    def certificate_pem(self) -> bytes:
        """The authority's own certificate, which edges and control plane trust."""
        return certificate_pem(self.certificate)

    def issue_edge(self, name: str, lifetime: datetime.timedelta = DEFAULT_LIFETIME) -> Credential:
        """Issue the client certificate of an edge. Raises ``InvalidNameError``."""
        return self._issue(Role.EDGE, name, (), lifetime)

    def issue_operator(
        self, name: str, lifetime: datetime.timedelta = DEFAULT_LIFETIME
    ) -> Credential:
        """Issue the client certificate of a person who may use the admin listener."""
        return self._issue(Role.OPERATOR, name, (), lifetime)

    def issue_server(
        self, hosts: Sequence[str], lifetime: datetime.timedelta = DEFAULT_LIFETIME
    ) -> Credential:
        """Issue the control plane's server certificate for DNS names and IP addresses."""
        names = dict.fromkeys((*hosts, *LOOPBACK_NAMES))
        return self._issue(
            Role.CONTROL_PLANE, Role.CONTROL_PLANE.value, [_host(name) for name in names], lifetime
        )

    def _issue(
        self,
        role: Role,
        name: str,
        hosts: Sequence[x509.GeneralName],
        lifetime: datetime.timedelta,
    ) -> Credential:
        uri = x509.UniformResourceIdentifier(identity_uri(self.customer, role, name))
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock()
        builder = _builder(self.customer, name, key, now, now + lifetime)
        certificate = (
            builder.issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(_extended_key_usage(role), critical=False)
            .add_extension(x509.SubjectAlternativeName([uri, *hosts]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        self.index.append(identity_of(certificate))
        return Credential(certificate_pem(certificate), key_pem(key))


def _self_signed(
    customer: str, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.Certificate:
    uri = x509.UniformResourceIdentifier(customer_uri(customer))
    builder = _builder(customer, "vSphere Gateway authority", key, now, now + CA_LIFETIME)
    return (
        builder.issuer_name(_subject(customer, "vSphere Gateway authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    customer: str,
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    not_after: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(customer, common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(customer: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, customer),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _extended_key_usage(role: Role) -> x509.ExtendedKeyUsage:
    """Only a control plane may serve: an edge's stolen key cannot impersonate one."""
    if role is Role.CONTROL_PLANE:
        return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise InvalidNameError(f"host {text!r}: expected a DNS name or IP address") from error
