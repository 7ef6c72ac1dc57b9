"""Mutual-TLS credentials for gRPC, loaded from files and checked before they are used."""

import dataclasses
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.errors import CertificateFileError, IdentityError
from certs.files import read_bytes, read_certificate, read_key
from certs.identity import PeerIdentity, Role, customer_of, identity_of


@dataclasses.dataclass(frozen=True, slots=True)
class TlsMaterial:
    """The customer's authority and an own certificate and key, that are known to fit together."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = dataclasses.field(repr=False)
    identity: PeerIdentity
    """Who the own certificate says we are; its validity is for the caller to judge."""

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server that demands a client certificate of the same customer."""
        return grpc.ssl_server_credentials(
            [(self.key_pem, self.certificate_pem)],
            root_certificates=self.ca_pem,
            require_client_auth=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a client that trusts the customer's authority and no other."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca_pem,
            private_key=self.key_pem,
            certificate_chain=self.certificate_pem,
        )


def load_tls_material(ca: Path, certificate: Path, key: Path, role: Role) -> TlsMaterial:
    """Read the three files and check that they belong together and to ``role``.

    Raises ``CertificateFileError`` that names the file which does not fit.
    """
    authority = read_certificate(ca)
    leaf = read_certificate(certificate)
    private_key = read_key(key)
    if private_key.public_key() != leaf.public_key():
        raise CertificateFileError(key, f"is not the key of {certificate}")
    _check_issuer(authority, leaf, ca, certificate)
    identity = _check_identity(authority, leaf, ca, certificate)
    if identity.role is not role:
        raise CertificateFileError(
            certificate,
            f"is the certificate of {identity.role.value} {identity.name!r}, "
            f"expected one of role {role.value}",
        )
    return TlsMaterial(read_bytes(ca), read_bytes(certificate), read_bytes(key), identity)


def _check_issuer(
    authority: x509.Certificate, leaf: x509.Certificate, ca: Path, certificate: Path
) -> None:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateFileError(certificate, f"was not issued by {ca}") from error


def _check_identity(
    authority: x509.Certificate, leaf: x509.Certificate, ca: Path, certificate: Path
) -> PeerIdentity:
    try:
        customer = customer_of(authority)
    except IdentityError as error:
        raise CertificateFileError(ca, str(error)) from error
    try:
        identity = identity_of(leaf)
    except IdentityError as error:
        raise CertificateFileError(certificate, str(error)) from error
    if identity.customer != customer:
        raise CertificateFileError(
            certificate, f"names customer {identity.customer!r}, but {ca} is {customer!r}"
        )
    return identity
