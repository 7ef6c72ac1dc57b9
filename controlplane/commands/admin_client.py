"""The commands' way to the admin listener of a running control plane."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from certs.bundle import format_address
from certs.credentials import load_tls_material
from certs.errors import CertificateFileError
from certs.identity import Role
from controlplane.config import Settings
from controlplane.errors import ControlPlaneError

CONNECT_SECONDS = 5.0
_DECIDED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)


class NotRunningError(ControlPlaneError):
    """No control plane answers where the configuration says."""


class RequestRefusedError(ControlPlaneError):
    """The control plane answered with an error."""


@contextmanager
def admin_channel(settings: Settings) -> Iterator[grpc.Channel]:
    """Open a channel with the operator's certificate.

    Raises ``ConfigurationError``, ``NotRunningError`` or, for an error that a call on the channel
    meets, ``RequestRefusedError``.
    """
    address = format_address(settings.admin.bind_address, settings.admin.bind_port)
    try:
        material = load_tls_material(
            Path(settings.required("gateway", "ca")),
            Path(settings.required("admin", "operator_certificate")),
            Path(settings.required("admin", "operator_key")),
            Role.OPERATOR,
        )
    except CertificateFileError as error:
        raise settings.problem("admin", "operator_certificate", str(error)) from error
    with grpc.secure_channel(address, material.channel_credentials()) as channel:
        _wait_until_ready(channel, address, settings)
        try:
            yield channel
        except grpc.RpcError as error:
            raise RequestRefusedError(
                f"control plane at {address}: {error.code().name}: {error.details()}"
            ) from error


def _wait_until_ready(channel: grpc.Channel, address: str, settings: Settings) -> None:
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(states.put, try_to_connect=True)
    state = grpc.ChannelConnectivity.IDLE
    try:
        while state not in _DECIDED:
            state = states.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        pass
    finally:
        channel.unsubscribe(states.put)
    if state is not grpc.ChannelConnectivity.READY:
        files = ", ".join(settings.files)
        raise NotRunningError(
            f"no control plane of this customer answers on {address} ([admin] bind_address and "
            f"bind_port in {files}): start it with `vsg-controlplane serve`; if it runs, look at "
            "its log"
        )
