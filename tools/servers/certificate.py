"""A throw-away certificate authority for servers that only tests talk to."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tools.servers.state import LOOPBACK

VALIDITY = datetime.timedelta(days=7)


@dataclass(frozen=True)
class ServerCertificate:
    """Files of a server's certificate, its key and the authority that signed it."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def thumbprint(self) -> str:
        """SHA-256 of the certificate as vSphere writes it: AA:BB:..."""
        return self._thumbprint(hashes.SHA256())

    @property
    def thumbprint_sha1(self) -> str:
        """SHA-1 of the certificate, which older vSphere tools show."""
        return self._thumbprint(hashes.SHA1())

    def _thumbprint(self, algorithm: hashes.HashAlgorithm) -> str:
        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return certificate.fingerprint(algorithm).hex(":").upper()


def ensure(folder: Path, authority_name: str) -> ServerCertificate:
    """The certificate in a folder, made where there is none that is valid for another day."""
    files = ServerCertificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    if not files.certificate.exists() or _expires_soon(files.certificate):
        _issue(files, authority_name)
    return files


def _expires_soon(file: Path) -> bool:
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    return certificate.not_valid_after_utc < tomorrow


def _issue(files: ServerCertificate, authority_name: str) -> None:
    """Make an authority and a certificate for this machine's loopback; its key is dropped."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _build(authority_name, authority_name, authority_key, authority_key, None)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
    )
    certificate = _build("localhost", authority_name, key, authority_key, names)

    files.authority.parent.mkdir(parents=True, exist_ok=True)
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _build(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    names: x509.SubjectAlternativeName | None,
) -> x509.Certificate:
    """A certificate for names, or an authority's own where there are none."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())
