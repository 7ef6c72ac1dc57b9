"""The three gRPC servers: for edges, for operators, and for the compute workers' unix socket.

Only the first is reachable from outside. None speaks plaintext over a network.
"""

import concurrent.futures
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import grpc

from certs.bundle import format_address
from controlplane.domain.errors import StartError

MESSAGE_LIMIT = 4 * 1024 * 1024
"""Bytes of one message, docs/concepts/sync-protocol.md."""
ADMIN_THREADS = 8
STREAMS_PER_EDGE = 4
"""Control, inventory, an on-demand read, and one that is just being replaced."""
SOCKET_PATH_LIMIT = 107
"""Bytes, unix(7)."""

Options = Sequence[tuple[str, int]]

_COMMON: Options = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.enable_channelz", 1),
    # Two processes that share one port would each see half of the edges.
    ("grpc.so_reuseport", 0),
)
_EDGE: Options = (
    *_COMMON,
    # HTTP/2 pings find a proxy on the way that died silently, heartbeats a peer behind it.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 15_000),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.server_handshake_timeout_ms", 20_000),
)


def edge_server(max_edges: int, interceptors: list[grpc.ServerInterceptor]) -> grpc.Server:
    """Make the server that edges dial. Each stream holds a thread; excess calls are refused."""
    threads = max_edges * STREAMS_PER_EDGE
    return grpc.server(
        concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="edges"),
        interceptors=interceptors,
        options=_EDGE,
        maximum_concurrent_rpcs=threads,
    )


def admin_server(interceptors: list[grpc.ServerInterceptor]) -> grpc.Server:
    """Make the server for operators."""
    return grpc.server(
        concurrent.futures.ThreadPoolExecutor(ADMIN_THREADS, thread_name_prefix="admin"),
        interceptors=interceptors,
        options=_COMMON,
        maximum_concurrent_rpcs=ADMIN_THREADS * 4,
    )


def bridge_server(threads: int) -> grpc.Server:
    """Make the server for the workers; an operation holds a thread until it has ended."""
    return grpc.server(
        concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="bridge"),
        options=_COMMON,
    )


def listen(server: grpc.Server, host: str, port: int, credentials: grpc.ServerCredentials) -> int:
    """Bind a server and return its port. Raises ``StartError`` with the likely cause."""
    address = format_address(host, port)
    try:
        bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise StartError(
            f"cannot listen on {address}: another program uses the port, the address is not this "
            "machine's, or the right to ports below 1024 is missing"
        ) from error
    if not bound:
        raise StartError(f"cannot listen on {address}")
    return bound


def listen_on_socket(server: grpc.Server, path: Path) -> None:
    """Bind a server to a unix socket that only its own user may open. Raises ``StartError``."""
    if len(str(path).encode()) > SOCKET_PATH_LIMIT:
        raise StartError(f"{path}: a unix socket's path has at most {SOCKET_PATH_LIMIT} bytes")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        credentials = grpc.local_server_credentials(grpc.LocalConnectionType.UDS)
        server.add_secure_port(f"unix:{path}", credentials)
        path.chmod(0o600)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from error
    except RuntimeError as error:
        raise StartError(f"cannot listen on {path}: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
