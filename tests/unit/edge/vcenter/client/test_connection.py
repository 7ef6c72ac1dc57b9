"""An answer of vCenter's comes whole or as an error with a name, from the right server, in time."""

import gzip
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import Secret, VCenterSettings
from edge.vcenter.client import connection, faults
from edge.vcenter.client.connection import Answer, ConnectionPool
from tests.support.https_server import HttpsServer, head, response

XML = b"<a>" + bytes(range(32, 60)) * 40_000 + b"</a>"
GZIP = "Content-Encoding: gzip"
CHUNKED = "Transfer-Encoding: chunked"
SECONDS = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    running = HttpsServer(tmp_path / "server")
    yield running
    running.close()


@pytest.fixture
def pool(server: HttpsServer, tmp_path: Path) -> Iterator[ConnectionPool]:
    made = pool_to(server, tmp_path)
    yield made
    made.close()


def pool_to(server: HttpsServer, folder: Path, **trust: Any) -> ConnectionPool:
    return ConnectionPool(
        VCenterSettings(
            host=server.host,
            port=server.port,
            username="u",
            password=Secret(folder / "password"),
            **(trust or {"ca_file": server.certificate.authority}),
        )
    )


def ask(pool: ConnectionPool, seconds: float = SECONDS) -> Answer:
    return pool.request("POST", "/sdk", b"<question/>", {"SOAPAction": "urn:vim25"}, seconds)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [response(XML)],
        [head(CHUNKED), chunk(XML[:1000]), chunk(XML[1000:]), chunk(b"")],
        [response(gzip.compress(XML), GZIP)],
        [head(CHUNKED, GZIP), chunk(gzip.compress(XML)), chunk(b"")],
        [head("Connection: close"), XML, HttpsServer.HANG_UP],
    ],
    ids=["length", "chunked", "gzip", "chunked gzip", "until the end"],
)
def test_whole_answer_is_returned_decompressed(
    server: HttpsServer, pool: ConnectionPool, pieces: list[bytes]
) -> None:
    server.answer(*pieces)
    assert ask(pool).body == XML
    assert b"POST /sdk" in server.requests[0]
    assert b"Accept-Encoding: gzip" in server.requests[0]
    assert server.requests[0].endswith(b"<question/>")


def test_answer_without_a_body_is_whole(server: HttpsServer, pool: ConnectionPool) -> None:
    server.answer(response(b"", GZIP, status="401 Unauthorized"))
    assert (ask(pool).status, ask_again(server, pool)) == (401, b"")


def ask_again(server: HttpsServer, pool: ConnectionPool) -> bytes:
    server.answer(head(status="204 No Content"))
    return ask(pool).body


def test_status_and_headers_are_passed_on_whatever_they_are(
    server: HttpsServer, pool: ConnectionPool
) -> None:
    server.answer(
        response(b"x", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2", status="503 Not now")
    )
    answer = ask(pool)
    assert answer.status == 503
    assert answer.headers.getlist("Set-Cookie") == ["a=1; Path=/", "b=2"]


@pytest.mark.parametrize(
    "pieces",
    [
        [head(f"Content-Length: {len(XML)}"), XML[:-5]],
        [head(f"Content-Length: {len(XML)}")],
        [head(CHUNKED), chunk(XML[:1000])],
        [head(CHUNKED), chunk(XML)[:-100]],
        [head(CHUNKED), chunk(XML)],
        [head("Connection: close", GZIP), gzip.compress(XML)[:-9]],
        [head(CHUNKED, GZIP), chunk(gzip.compress(XML)[:500]), chunk(b"")],
        [response(gzip.compress(XML)[:500], GZIP)],
        [response(gzip.compress(XML)[:-4], GZIP)],
    ],
    ids=[
        "short of its length",
        "nothing after the headers",
        "between chunks",
        "inside a chunk",
        "without the last chunk",
        "gzip, then closed",
        "gzip short in whole chunks",
        "gzip short in its length",
        "gzip without its checksum",
    ],
)
def test_answer_that_ends_early_is_never_taken_for_a_whole_one(
    server: HttpsServer, pool: ConnectionPool, pieces: list[bytes]
) -> None:
    server.answer(*pieces, HttpsServer.HANG_UP)
    with pytest.raises(faults.TruncatedAnswerError, match="in the middle"):
        ask(pool)


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip at all",
        gzip.compress(XML)[:300] + b"\xff" * 300 + gzip.compress(XML)[600:],
        gzip.compress(XML) + b"trailing",
    ],
    ids=["no gzip", "damaged", "something behind it"],
)
def test_answer_that_cannot_be_decompressed_is_an_error_with_a_name(
    server: HttpsServer, pool: ConnectionPool, body: bytes
) -> None:
    server.answer(response(body, GZIP))
    with pytest.raises(faults.CorruptAnswerError):
        ask(pool)


@pytest.mark.parametrize("compressed", [True, False])
def test_answer_over_the_limit_is_refused_before_it_fills_the_memory(
    server: HttpsServer,
    pool: ConnectionPool,
    compressed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAXIMUM_BODY_BYTES", 1 << 20)
    bomb = gzip.compress(bytes(64 << 20)) if compressed else bytes(2 << 20)
    server.answer(response(bomb, *([GZIP] if compressed else [])))
    with pytest.raises(faults.AnswerTooLongError, match="1 MiB"):
        ask(pool)


def test_connection_is_reused_after_a_whole_answer_and_never_after_a_broken_one(
    server: HttpsServer, pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAXIMUM_BODY_BYTES", 1 << 20)
    server.answer(response(b"1"))
    server.answer(response(b"2"))
    server.answer(response(bytes(4 << 20)))
    server.answer(response(b"4"))
    assert [ask(pool).body, ask(pool).body] == [b"1", b"2"]
    assert server.connections == 1
    with pytest.raises(faults.AnswerTooLongError):
        ask(pool)
    assert ask(pool).body == b"4"
    assert server.connections == 2


def test_connection_idle_for_long_is_opened_again(
    server: HttpsServer, pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer(response(b"1"))
    server.answer(response(b"2"))
    ask(pool)
    monkeypatch.setattr(connection, "_IDLE_SECONDS", 0.0)
    assert ask(pool).body == b"2"
    assert server.connections == 2


def test_pool_can_be_used_again_after_it_was_closed(
    server: HttpsServer, pool: ConnectionPool
) -> None:
    server.answer(response(b"1"))
    server.answer(response(b"2"))
    ask(pool)
    pool.close()
    assert ask(pool).body == b"2"
    assert server.connections == 2


@pytest.mark.parametrize("pieces", [[], [head("Content-Length: 2"), b"x"]])
def test_silent_server_is_given_up_at_the_deadline(
    server: HttpsServer, pool: ConnectionPool, pieces: list[bytes]
) -> None:
    if pieces:
        server.answer(*pieces)
    began = time.monotonic()
    with pytest.raises(faults.VCenterUnreachableError, match="deadline"):
        ask(pool, 0.3)
    assert 0.2 < time.monotonic() - began < 2


def test_answer_that_trickles_in_is_given_up_at_the_deadline(
    server: HttpsServer, pool: ConnectionPool
) -> None:
    server.pause_seconds = 0.05
    server.answer(head("Content-Length: 1000"), *[b"x"] * 1000)
    began = time.monotonic()
    with pytest.raises(faults.VCenterUnreachableError, match="deadline"):
        ask(pool, 0.5)
    assert time.monotonic() - began < 2


def test_request_is_never_sent_twice(server: HttpsServer, pool: ConnectionPool) -> None:
    server.answer(HttpsServer.HANG_UP)
    with pytest.raises(faults.VCenterUnreachableError):
        ask(pool)
    server.answer(head("Location: /elsewhere", "Content-Length: 0", status="302 Found"))
    assert ask(pool).status == 302
    assert len(server.requests) == 2


def test_nobody_listening_is_said_in_the_systems_words(
    server: HttpsServer, pool: ConnectionPool
) -> None:
    server.close()
    with pytest.raises(faults.VCenterUnreachableError, match="Connection refused"):
        ask(pool)


def test_host_that_has_no_address_is_said_in_the_systems_words(tmp_path: Path) -> None:
    settings = VCenterSettings("vc.invalid", 443, "u", Secret(tmp_path / "password"))
    with pytest.raises(faults.VCenterUnreachableError, match="no connection to vCenter"):
        ask(ConnectionPool(settings))


def test_server_that_speaks_no_tls_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        settings = VCenterSettings(
            "127.0.0.1", plain.getsockname()[1], "u", Secret(tmp_path / "password")
        )
        with pytest.raises(faults.VCenterUnreachableError):
            ask(ConnectionPool(settings), 0.3)


@pytest.mark.parametrize("trust", [{"ca_file": None}, {"thumbprint": "ab" * 32}])
def test_nothing_is_sent_to_a_server_that_is_not_trusted(
    server: HttpsServer, tmp_path: Path, trust: dict[str, Any]
) -> None:
    with pytest.raises(faults.CertificateNotTrustedError, match=server.certificate.thumbprint):
        ask(pool_to(server, tmp_path, **trust))
    assert server.requests == []


def test_pinned_thumbprint_is_enough(server: HttpsServer, tmp_path: Path) -> None:
    server.answer(response(b"1"))
    pinned = server.certificate.thumbprint.replace(":", "").lower()
    assert ask(pool_to(server, tmp_path, thumbprint=pinned)).body == b"1"
