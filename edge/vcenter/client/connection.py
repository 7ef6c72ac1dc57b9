"""HTTPS to vCenter: every connection proves whom it talks to before anything is sent.

pyVmomi's own connections are not used: for loopback addresses it accepts any certificate, and a
wrong thumbprint too. One pool serves pyVmomi's calls, the collector's and the tagging service's.
"""

import collections
import dataclasses
import hashlib
import http.client
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Mapping

from cryptography import x509

from edge.config import VCenterSettings
from edge.vcenter.client.faults import CertificateNotTrustedError, PresentedCertificate

CONNECT_TIMEOUT_SECONDS = 10.0
_READ_BYTES = 1 << 18
_IDLE_SECONDS = 20.0
_IDLE_CONNECTIONS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class ConnectionPool:
    """Connections to one vCenter, reused while they are fresh. Safe for many threads."""

    def __init__(self, settings: VCenterSettings) -> None:
        self._settings = settings
        self._context = _tls_context(settings)
        self._idle: collections.deque[tuple[float, _Connection]] = collections.deque()
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        deadline_seconds: float,
    ) -> Answer:
        """Send one request and return the whole response, whatever its status.

        ``deadline_seconds`` bounds the time from sending to the last byte. Nothing is ever sent
        twice. Raises ``CertificateNotTrustedError``, ``OSError`` (``TimeoutError`` when the
        deadline passes) or ``http.client.HTTPException``.
        """
        connection = self._take()
        try:
            answer = connection.exchange(method, path, body, headers, deadline_seconds)
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None:
            self._give_back(connection)
        return answer

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, collections.deque()
        for _, connection in idle:
            connection.close()

    def _take(self) -> "_Connection":
        while True:
            with self._lock:
                since, connection = self._idle.pop() if self._idle else (0.0, None)
            if connection is None:
                return self._connect()
            if time.monotonic() - since < _IDLE_SECONDS and not _has_been_closed(connection):
                return connection
            connection.close()

    def _connect(self) -> "_Connection":
        connection = _Connection(self._settings, self._context)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise not_trusted(self._settings, error.verify_message) from error
        return connection

    def _give_back(self, connection: "_Connection") -> None:
        with self._lock:
            if len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()


class _Connection(http.client.HTTPSConnection):
    """One connection, checked against the pinned thumbprint each time it is opened."""

    sock: ssl.SSLSocket | None

    def __init__(self, settings: VCenterSettings, context: ssl.SSLContext) -> None:
        super().__init__(
            settings.host, settings.port, timeout=CONNECT_TIMEOUT_SECONDS, context=context
        )
        self._settings = settings

    def connect(self) -> None:
        super().connect()
        if self.sock is None or self._settings.thumbprint is None:
            return
        certificate = self.sock.getpeercert(binary_form=True) or b""
        if hashlib.sha256(certificate).hexdigest() != self._settings.thumbprint:
            self.close()
            raise _not_trusted(
                self._settings, "its thumbprint is not the configured one", certificate
            )

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        deadline_seconds: float,
    ) -> Answer:
        deadline = time.monotonic() + deadline_seconds
        self._wait_at_most(deadline)
        self.request(method, path, body, {"Accept-Encoding": "gzip", **headers})
        response = self.getresponse()
        compressed = response.getheader("Content-Encoding", "").lower() == "gzip"
        inflate = zlib.decompressobj(wbits=31) if compressed else None
        parts: list[bytes] = []
        while part := response.read(_READ_BYTES):
            parts.append(inflate.decompress(part) if inflate else part)
            self._wait_at_most(deadline)
        return Answer(response.status, response.headers, b"".join(parts))

    def _wait_at_most(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.sock is not None:
            self.sock.settimeout(left)


def fetch_certificate(settings: VCenterSettings) -> bytes:
    """Return the certificate (DER) that the server shows, unverified; nothing is sent to it.

    Raises ``OSError``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = (settings.host, settings.port)
    with (
        socket.create_connection(address, timeout=CONNECT_TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=settings.host) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def describe_certificate(certificate: bytes) -> PresentedCertificate:
    """Return what a person needs to recognise a certificate (DER)."""
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
        certificate = fetch_certificate(settings)
    except OSError:
        certificate = b""
    return _not_trusted(settings, reason, certificate)


def _not_trusted(
    settings: VCenterSettings, reason: str, certificate: bytes
) -> CertificateNotTrustedError:
    presented = describe_certificate(certificate) if certificate else None
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


def _tls_context(settings: VCenterSettings) -> ssl.SSLContext:
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


def _has_been_closed(connection: _Connection) -> bool:
    """Tell whether the server closed an idle connection: then there is something to read."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
