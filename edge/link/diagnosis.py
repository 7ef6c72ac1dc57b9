"""Finds out why the control plane cannot be reached: gRPC's errors say it in prose only.

Connects again, one step at a time, with Python's sockets and TLS, whose errors are typed: name,
connection, proxy, the control plane's certificate, and whether it accepts ours.
"""

import http.client
import socket
import ssl

from cryptography import x509

from certs.bundle import CERTIFICATE_FILE, KEY_FILE
from edge.errors import (
    ControlPlaneNotTrustedError,
    ControlPlaneUnreachableError,
    EdgeRefusedError,
    LinkError,
)
from edge.link.identity import Identity
from edge.link.proxy import Proxy

TIMEOUT = 10.0
"""Seconds for each step."""
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""RFC 9113, section 3.4, with an empty SETTINGS frame: a server answers with its own."""


def diagnose(identity: Identity, proxy: Proxy | None) -> LinkError | None:
    """What prevents a connection to the control plane; None if nothing does."""
    try:
        with _connect(identity, proxy) as connection:
            _shake_hands(connection, identity)
    except ssl.SSLCertVerificationError as error:
        return ControlPlaneNotTrustedError(_mistrust(identity, proxy, error))
    except ssl.SSLError as error:
        return ControlPlaneUnreachableError(
            f"TLS to {identity.bundle.control_plane} failed ({error.reason or error}): is it the "
            "control plane's port?"
        )
    except LinkError as error:
        return error
    except OSError as error:
        return ControlPlaneUnreachableError(
            f"{identity.bundle.control_plane} ended the TLS handshake ({error}): is it the control "
            "plane's port?"
        )
    return None


def _connect(identity: Identity, proxy: Proxy | None) -> socket.socket:
    host, port = identity.address
    if proxy is not None:
        return _connect_through(proxy, host, port)
    try:
        return socket.create_connection((host, port), TIMEOUT)
    except socket.gaierror as error:
        raise ControlPlaneUnreachableError(
            f"the name {host} of the control plane cannot be resolved: {error.strerror}"
        ) from error
    except OSError as error:
        raise ControlPlaneUnreachableError(
            f"nothing answers at {host}:{port}: {error.strerror or error}; does a firewall "
            "block it, or is a proxy needed ([control_plane] proxy)?"
        ) from error


def _connect_through(proxy: Proxy, host: str, port: int) -> socket.socket:
    tunnel = http.client.HTTPConnection(proxy.host, proxy.port, timeout=TIMEOUT)
    tunnel.set_tunnel(host, port, proxy.headers)
    try:
        tunnel.connect()
    except (OSError, http.client.HTTPException) as error:
        tunnel.close()
        raise ControlPlaneUnreachableError(
            f"the proxy {proxy} does not connect to {host}:{port}: {error}"
        ) from error
    connection: socket.socket = tunnel.sock
    return connection


def _shake_hands(connection: socket.socket, identity: Identity) -> None:
    """Do the handshakes of TLS and HTTP/2. Raises ``ssl.SSLError`` and ``OSError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=identity.material.ca_pem.decode())
    directory = identity.bundle.directory
    context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE)
    with context.wrap_socket(connection, server_hostname=identity.bundle.server_name) as secured:
        _expect_settings(secured, identity)


def _expect_settings(secured: ssl.SSLSocket, identity: Identity) -> None:
    """Expect what an HTTP/2 server says first. Raises ``EdgeRefusedError``.

    In TLS 1.3 a server verifies our certificate after our side of the handshake is done, and gRPC's
    closes the connection without an alert.
    """
    try:
        secured.sendall(_HTTP2_PREFACE)
        answered, problem = bool(secured.recv(9)), "closed by the other side"
    except OSError as error:
        answered, problem = False, str(error)
    if not answered:
        raise EdgeRefusedError(
            f"{identity.bundle.control_plane} is the control plane, and ended the connection after "
            f"the TLS handshake ({problem}): it does not accept the certificate of edge "
            f"{identity.name}; is it of the same customer, not expired and not revoked?"
        )


def _mistrust(identity: Identity, proxy: Proxy | None, error: ssl.SSLCertVerificationError) -> str:
    seen = _presented(identity, proxy)
    if seen is None:
        return f"{identity.bundle.control_plane} is not trusted: {error.verify_message}"
    authority = x509.load_pem_x509_certificate(identity.material.ca_pem)
    issuer = seen.issuer.rfc4514_string()
    if seen.issuer != authority.subject:
        return (
            f"{identity.bundle.control_plane} presents a certificate of {issuer!r}, not of this "
            f"customer's authority {authority.subject.rfc4514_string()!r}: either it is another "
            "control plane, or a firewall inspects TLS and must exempt this address"
        )
    return (
        f"the certificate of {identity.bundle.control_plane} is not valid for "
        f"{identity.bundle.server_name}: {error.verify_message}"
    )


def _presented(identity: Identity, proxy: Proxy | None) -> x509.Certificate | None:
    """The certificate that the other side presents, trusted or not; only for the report."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            _connect(identity, proxy) as connection,
            context.wrap_socket(connection, server_hostname=identity.bundle.server_name) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
    except (OSError, LinkError):
        return None
    return x509.load_der_x509_certificate(der) if der else None
