"""Who holds a certificate: customer, role and name, read from its URI subject alternative name.

The form is a SPIFFE ID (https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/): the customer is the
trust domain, the path tells the role and, for edges and operators, the name:
``spiffe://acme/edge/site-1``, ``spiffe://acme/control-plane``, ``spiffe://acme/operator/admin``.
"""

import dataclasses
import datetime
import enum
import re
from collections.abc import Iterable, Mapping

from cryptography import x509

from certs.errors import IdentityError, InvalidNameError

CUSTOMER_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
NAME_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


class Role(enum.Enum):
    """What the holder of a certificate is."""

    EDGE = "edge"
    CONTROL_PLANE = "control-plane"
    OPERATOR = "operator"


@dataclasses.dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What a certificate says about its holder."""

    customer: str
    role: Role
    name: str
    """The edge's or operator's name; ``control-plane`` for a control plane."""
    serial: str
    """Serial number in lower-case hexadecimal, as in the authority's index."""
    not_before: datetime.datetime
    not_after: datetime.datetime


def customer_uri(customer: str) -> str:
    """The trust domain of a customer. Raises ``InvalidNameError``."""
    if not CUSTOMER_PATTERN.fullmatch(customer):
        raise InvalidNameError(
            f"customer {customer!r}: expected lower-case letters, digits, dots and hyphens, "
            "at most 63, beginning and ending with a letter or digit"
        )
    return f"spiffe://{customer}"


def identity_uri(customer: str, role: Role, name: str) -> str:
    """The URI that stands for a holder. Raises ``InvalidNameError``."""
    domain = customer_uri(customer)
    if role is Role.CONTROL_PLANE:
        return f"{domain}/{role.value}"
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidNameError(
            f"{role.value} {name!r}: expected letters, digits, dots, underscores and hyphens, "
            "at most 64, beginning and ending with a letter or digit"
        )
    return f"{domain}/{role.value}/{name}"


def identity_of(certificate: x509.Certificate) -> PeerIdentity:
    """Read the holder from a certificate. Raises ``IdentityError``.

    This trusts the certificate: verify it first, as the TLS handshake does.
    """
    uri = _only_uri(certificate)
    domain, _, path = uri.removeprefix("spiffe://").partition("/")
    role_text, _, name = path.partition("/")
    try:
        role = Role(role_text)
        if role is Role.CONTROL_PLANE:
            name = name or role.value
        if identity_uri(domain, role, name) != uri:
            raise IdentityError(f"certificate with URI {uri!r}: not the form of this authority")
    except (ValueError, InvalidNameError) as error:
        raise IdentityError(f"certificate with URI {uri!r}: {error}") from error
    return PeerIdentity(
        customer=domain,
        role=role,
        name=name,
        serial=serial_text(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def identity_of_peer(auth_context: Mapping[str, Iterable[bytes]]) -> PeerIdentity:
    """Read the holder from ``grpc.ServicerContext.auth_context()``. Raises ``IdentityError``."""
    for pem in auth_context.get("x509_pem_cert", ()):
        try:
            return identity_of(x509.load_pem_x509_certificate(pem))
        except ValueError as error:
            raise IdentityError(f"the peer's certificate cannot be read: {error}") from error
    raise IdentityError("the peer presented no certificate")


def customer_of(authority: x509.Certificate) -> str:
    """Read the customer from an authority's own certificate. Raises ``IdentityError``."""
    uri = _only_uri(authority)
    customer = uri.removeprefix("spiffe://")
    if not uri.startswith("spiffe://") or not CUSTOMER_PATTERN.fullmatch(customer):
        raise IdentityError(f"certificate with URI {uri!r}: not a customer's authority")
    return customer


def serial_text(certificate: x509.Certificate) -> str:
    """The serial number as the index and the logs show it."""
    return f"{certificate.serial_number:040x}"


def _only_uri(certificate: x509.Certificate) -> str:
    """The one URI of a certificate; more or fewer would be ambiguous."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise IdentityError("the certificate has no subject alternative name") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise IdentityError(f"the certificate has the URIs {uris}, expected one spiffe:// URI")
    return uris[0]
