"""HTTPS to vCenter: every connection proves whom it talks to before anything is sent.

pyVmomi's own connections are not used: for loopback addresses it accepts any certificate, and a
wrong thumbprint too. One pool serves pyVmomi's calls, the collector's and the tagging service's.
An answer is returned whole or not at all: the changes in a part that is missing would be lost.
"""

import dataclasses
import http.client
import logging
import ssl
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.response import BaseHTTPResponse, HTTPResponse

from edge.config import VCenterSettings
from edge.vcenter.client import faults
from edge.vcenter.client.certificate import not_trusted, tls_context

CONNECT_TIMEOUT_SECONDS: Final = 10.0
MAXIMUM_BODY_BYTES: Final = 128 << 20
"""Limit of an answer, also once decompressed. No page comes near it: 1,000 virtual machines with
all their devices have 15 MB."""
_READ_BYTES: Final = 1 << 18
_IDLE_SECONDS: Final = 20.0
"""A connection that was idle for longer may have been dropped by a firewall without notice."""
_IDLE_CONNECTIONS: Final = 8
_HEADERS: Final = {"Accept-Encoding": "gzip", "User-Agent": "vsphere-gateway-edge"}
_LATE: Final = "vCenter did not answer within the deadline"

# It warns of each connection that the pool does not keep, which is normal under load.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes
    """Decompressed."""


class ConnectionPool:
    """Connections to one vCenter, reused while they are fresh. Safe for many threads."""

    def __init__(self, settings: VCenterSettings) -> None:
        """Raises ``CertificateNotTrustedError`` when ``ca_file`` cannot be used."""
        self._settings = settings
        self._context = tls_context(settings)
        self._pool = self._new_pool()

    def request(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        deadline_seconds: float,
    ) -> Answer:
        """Send one request and return the whole response, whatever its status.

        ``deadline_seconds`` bounds the time to the last byte, connecting included. Nothing is ever
        sent twice. Raises ``CertificateNotTrustedError``, ``VCenterUnreachableError``
        (``TruncatedAnswerError`` when only a part arrived), ``CorruptAnswerError`` or
        ``AnswerTooLongError``.
        """
        deadline = time.monotonic() + deadline_seconds
        try:
            response = self._pool.urlopen(
                method,
                path,
                body=body,
                headers={**_HEADERS, **headers},
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, total=deadline_seconds),
                retries=False,
                preload_content=False,
                decode_content=False,
                enforce_content_length=True,
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._explained(error) from error
        try:
            return Answer(response.status, response.headers, _whole_body(response, deadline))
        except BaseException:
            response.close()
            raise
        finally:
            response.release_conn()

    def close(self) -> None:
        """Close what is idle; what is in use is closed after its answer."""
        used, self._pool = self._pool, self._new_pool()
        used.close()

    def _new_pool(self) -> "_Pool":
        return _Pool(
            self._settings.host,
            self._settings.port,
            maxsize=_IDLE_CONNECTIONS,
            ssl_context=self._context,
            assert_fingerprint=self._settings.thumbprint,
        )

    def _explained(self, error: urllib3.exceptions.HTTPError) -> faults.VCenterError:
        """Say why no response began."""
        if isinstance(error, urllib3.exceptions.SSLError):
            cause = error.args[0]
            if isinstance(cause, ssl.SSLCertVerificationError):
                return not_trusted(self._settings, cause.verify_message)
            if not isinstance(cause, ssl.SSLError):
                return not_trusted(self._settings, "its thumbprint is not the configured one")
        return _unreachable(error)


class _Connection(HTTPSConnection):
    """One connection; the pool opens it again, and checks it again, when it was idle for long."""

    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        return super().is_connected and time.monotonic() - self._used_at < _IDLE_SECONDS

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self._used_at = time.monotonic()
        return response


class _Pool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Connection


def _whole_body(response: BaseHTTPResponse, deadline: float) -> bytes:
    parts = _received(response, deadline)
    if response.headers.get("Content-Encoding", "").lower() == "gzip":
        parts = _decompressed(parts)
    return b"".join(_bounded(parts))


def _received(response: BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
    """Yield the body as it arrives."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise faults.VCenterUnreachableError(_LATE)
        connection = response.connection
        # After the last byte another thread may use the connection: then there is none here.
        if isinstance(connection, _Connection) and connection.sock is not None:
            connection.sock.settimeout(left)
        try:
            part = response.read1(_READ_BYTES, decode_content=False)
        except urllib3.exceptions.ProtocolError as error:
            raise faults.TruncatedAnswerError(
                f"vCenter's answer ended in the middle: {error.args[-1]!r}"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(error) from error
        if not part:
            return
        yield part


def _decompressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress a gzip stream, a limited piece at a time; urllib3 takes a short one for whole."""
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    is_empty = True
    try:
        for part in parts:
            is_empty = False
            while part:
                if inflate.eof:
                    raise faults.CorruptAnswerError("vCenter's compressed answer has no clear end")
                yield inflate.decompress(part, _READ_BYTES)
                part = inflate.unconsumed_tail or inflate.unused_data
        yield inflate.flush()
    except zlib.error as error:
        raise faults.CorruptAnswerError(
            f"vCenter's answer cannot be decompressed: {error}"
        ) from error
    # No body at all is whole: the framing says so, whatever a header says of its encoding.
    if not inflate.eof and not is_empty:
        raise faults.TruncatedAnswerError("vCenter's compressed answer ended in the middle")


def _bounded(parts: Iterable[bytes]) -> Iterator[bytes]:
    room = MAXIMUM_BODY_BYTES
    for part in parts:
        room -= len(part)
        if room < 0:
            raise faults.AnswerTooLongError(
                f"vCenter's answer has more than {MAXIMUM_BODY_BYTES >> 20} MiB"
            )
        yield part


def _unreachable(error: urllib3.exceptions.HTTPError) -> faults.VCenterUnreachableError:
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
        return faults.VCenterUnreachableError(_LATE)
    if isinstance(error, urllib3.exceptions.SSLError):
        return faults.VCenterUnreachableError(f"TLS to vCenter failed: {error.args[0]}")
    for cause in (error.__cause__, *error.args):
        if isinstance(cause, OSError):
            return faults.VCenterUnreachableError(
                f"no connection to vCenter: {cause.strerror or cause}"
            )
        if isinstance(cause, http.client.HTTPException):
            return faults.VCenterUnreachableError(f"the connection to vCenter broke: {cause!r}")
    return faults.VCenterUnreachableError(f"the connection to vCenter broke: {error}")
