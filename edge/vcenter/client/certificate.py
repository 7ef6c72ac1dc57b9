"""Which certificate is vCenter's, and what to tell a person when it is not trusted."""

import hashlib
import socket
import ssl
from typing import Final

from cryptography import x509

from edge.config import VCenterSettings
from edge.vcenter.client.faults import CertificateNotTrustedError, PresentedCertificate

_FETCH_SECONDS: Final = 10.0


def fetch_certificate(settings: VCenterSettings) -> bytes:
    """Read the certificate (DER) that the server shows, unverified; nothing is sent to it.

    Raises ``OSError``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = (settings.host, settings.port)
    with (
        socket.create_connection(address, timeout=_FETCH_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=settings.host) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def describe_certificate(certificate: bytes) -> PresentedCertificate:
    """Extract what a person needs to recognise a certificate (DER)."""
    parsed = x509.load_der_x509_certificate(certificate)
    digits = hashlib.sha256(certificate).hexdigest().upper()
    return PresentedCertificate(
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        thumbprint=":".join(digits[at : at + 2] for at in range(0, len(digits), 2)),
        not_after=parsed.not_valid_after_utc,
    )


def not_trusted(settings: VCenterSettings, reason: str) -> CertificateNotTrustedError:
    """Make the error that says which certificate was shown and how to trust it."""
    try:
        presented = describe_certificate(fetch_certificate(settings))
    except (OSError, ValueError):
        presented = None
    where = f"{settings.host}:{settings.port}"
    message = f"the certificate of {where} is not trusted: {reason}."
    if presented is not None:
        message += (
            f" Presented: subject {presented.subject}, issuer {presented.issuer}, SHA-256 "
            f"thumbprint {presented.thumbprint}, not after {presented.not_after:%Y-%m-%d %H:%M}Z."
        )
    message += (
        " If it is vCenter's (compare with the thumbprint on its console), set vcenter.thumbprint"
        " to it, or put the authority that issued it into the file vcenter.ca_file"
        f" (vCenter offers it at https://{where}/certs/download.zip)."
    )
    return CertificateNotTrustedError(message, presented)


def tls_context(settings: VCenterSettings) -> ssl.SSLContext:
    """Make the context that trusts what the site's configuration names, and nothing else.

    Raises ``CertificateNotTrustedError`` when ``ca_file`` cannot be used.
    """
    try:
        context = ssl.create_default_context(
            cafile=None if settings.ca_file is None else str(settings.ca_file)
        )
    except (OSError, ssl.SSLError) as error:
        raise CertificateNotTrustedError(
            f"vcenter.ca_file {settings.ca_file} cannot be used ({error.strerror or error});"
            " expected certificates in PEM form",
            None,
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # vCenter's own certificate is as good in ca_file as the authority that issued it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if settings.thumbprint is not None:
        # The thumbprint alone decides, on every new connection, before anything is sent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
