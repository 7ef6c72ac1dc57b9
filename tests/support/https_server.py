"""An HTTPS server on the loopback interface that sends exactly the bytes that a test gives it."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

from tools.servers import certificate
from tools.servers.state import LOOPBACK


def head(*headers: str, status: str = "200 OK") -> bytes:
    """Build the beginning of a response."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Build a whole response."""
    return head(f"Content-Length: {len(body)}", *headers, status=status) + body


class HttpsServer:
    """Answers each request with the next of ``answers``; when there is none it stays silent.

    An answer is sent piece by piece; the connection is closed after one that ends in ``HANG_UP``.
    """

    HANG_UP = b""

    def __init__(self, folder: Path) -> None:
        self.host = LOOPBACK
        self.certificate = certificate.ensure(folder, f"https {folder.name}")
        self.answers: list[list[bytes]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.pause_seconds = 0.0
        """Between the pieces of an answer."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        self._closed = threading.Event()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def answer(self, *pieces: bytes) -> None:
        """Add an answer."""
        self.answers.append(list(pieces))

    def close(self) -> None:
        """Accept no more and break every connection."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(plain, True) as connection:
            self.connections += 1
            while request := _request(connection):
                self.requests.append(request)
                pieces = self.answers.pop(0) if self.answers else None
                if pieces is None:
                    self._closed.wait()
                    return
                for piece in pieces:
                    if piece == self.HANG_UP:
                        return
                    connection.sendall(piece)
                    self._closed.wait(self.pause_seconds)


def _request(connection: ssl.SSLSocket) -> bytes:
    """Read one request; empty when the client has hung up."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return b""
        received += part
    beginning, _, body = received.partition(b"\r\n\r\n")
    for line in beginning.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            while len(body) < int(value):
                body += connection.recv(65536)
    return beginning + b"\r\n\r\n" + body
