"""Reading and writing key and certificate files, with errors that name them."""

import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import CertificateFileError

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises ``CertificateFileError``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateFileError(path, f"cannot be read: {error.strerror}") from error


def read_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file. Raises ``CertificateFileError``."""
    try:
        return x509.load_pem_x509_certificate(read_bytes(path))
    except ValueError as error:
        raise CertificateFileError(path, "expected a certificate in PEM form") from error


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted EC private key. Raises ``CertificateFileError``."""
    try:
        key = serialization.load_pem_private_key(read_bytes(path), password=None)
    except (ValueError, TypeError) as error:
        raise CertificateFileError(
            path, "expected an unencrypted private key in PEM form"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateFileError(path, "expected an elliptic curve key")
    return key


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Replace a file at once, never readable by more than ``mode``. Raises on failure."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CertificateFileError(path, f"cannot be written: {error.strerror}") from error


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM form (PKCS #8, unencrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM form."""
    return certificate.public_bytes(serialization.Encoding.PEM)
