"""A TCP relay between two parties that can be cut, frozen or made a proxy: real bytes, real faults.

As a proxy it understands CONNECT (RFC 9110, section 9.3.6) with Basic authentication, and nothing
else; no proxy that the tests may install here does less.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator

LOOPBACK = "127.0.0.1"


class Cable:
    """Relays connections to ``port``, or as a proxy to wherever CONNECT says."""

    def __init__(self, port: int = 0, authorization: str = "") -> None:
        """``authorization`` is the Proxy-Authorization header that a proxy demands."""
        self.target = port
        self.authorization = authorization
        self.connects: list[str] = []
        """Addresses that were asked for with CONNECT."""
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._frozen: set[socket.socket] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Swallow what the open connections carry, both ways; new ones work: a half-open link."""
        with self._lock:
            self._frozen.update(end for pair in self._pairs for end in pair)

    def close(self) -> None:
        """Accept nothing more and break everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection((LOOPBACK, self.target or self._handshake(near)))
        except OSError:
            near.close()
            return
        with self._lock:
            self._pairs.append((near, far))
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _handshake(self, near: socket.socket) -> int:
        """Take a CONNECT request; return the port asked for. Raises ``OSError`` to refuse."""
        request = b"".join(_until_blank_line(near)).decode()
        address = request.split()[1]
        self.connects.append(address)
        if self.authorization and f"Proxy-Authorization: {self.authorization}" not in request:
            near.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            raise PermissionError
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return int(address.rpartition(":")[2])

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._frozen:
                    sink.sendall(data)
            if source not in self._frozen:
                sink.shutdown(socket.SHUT_WR)


def _until_blank_line(near: socket.socket) -> Iterator[bytes]:
    last = b""
    while not last.endswith(b"\r\n\r\n"):
        byte = near.recv(1)
        if not byte:
            raise ConnectionResetError
        last = last[-3:] + byte
        yield byte
