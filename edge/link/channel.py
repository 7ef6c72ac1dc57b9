"""The one channel to the control plane: mutual TLS, keepalive, proxy."""

import grpc

from certs.bundle import format_address
from edge.link.identity import Identity
from edge.link.proxy import Proxy

MESSAGE_LIMIT = 4 << 20
"""Bytes of one message, docs/concepts/sync-protocol.md."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The link reconnects by its own backoff: a shared subchannel would add gRPC's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


def channel_options(identity: Identity, proxy: Proxy | None) -> list[tuple[str, int | str]]:
    """gRPC options of the channel."""
    options: list[tuple[str, int | str]] = list(_OPTIONS)
    if identity.bundle.server_name != identity.address[0]:
        options.append(("grpc.ssl_target_name_override", identity.bundle.server_name))
    if proxy is None:
        options.append(("grpc.enable_http_proxy", 0))
    else:
        options.append(("grpc.http_proxy", proxy.url))
    return options


def open_channel(identity: Identity, proxy: Proxy | None) -> grpc.Channel:
    """Open a channel; it connects when the first call is made."""
    return grpc.secure_channel(
        format_address(*identity.address),
        identity.material.channel_credentials(),
        options=channel_options(identity, proxy),
    )
