"""The client of a running control plane's admin listener, and the commands that need only it."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certs.bundle import format_address
from certs.credentials import load_tls_material
from certs.errors import CertificateFileError
from certs.identity import Role
from common.terminal import choose_format
from controlplane.commands.listings import CALL_SECONDS, QUARANTINE, Listing
from controlplane.commands.output import show
from controlplane.config.settings import Settings
from controlplane.domain.errors import ControlPlaneError
from vsphere_gateway.v1 import diagnostics_pb2, management_pb2
from vsphere_gateway.v1.diagnostics_pb2_grpc import DiagnosticsStub
from vsphere_gateway.v1.management_pb2_grpc import ManagementStub

CONNECT_SECONDS = 10.0
_ABSENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


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
        try:
            _check_running(channel, address, settings)
            yield channel
        except grpc.RpcError as error:
            raise RequestRefusedError(
                f"control plane at {address}: {error.code().name}: {error.details()}"
            ) from error


def _check_running(channel: grpc.Channel, address: str, settings: Settings) -> None:
    """Check health, which a control plane answers in any state."""
    try:
        health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # missing there
            health_pb2.HealthCheckRequest(), timeout=CONNECT_SECONDS
        )
    except grpc.RpcError as error:
        if error.code() not in _ABSENT:
            raise
        files = ", ".join(settings.files)
        raise NotRunningError(
            f"no control plane of this customer answers on {address} ([admin] bind_address and "
            f"bind_port in {files}): start it with `vsg-controlplane serve`; if it runs, look at "
            "its log"
        ) from error


def release_alarm(alarm_id: str, settings: Settings) -> None:
    """Release an alarm. Raises ``ControlPlaneError`` that says what to do."""
    with admin_channel(settings) as channel:
        request = management_pb2.ReleaseAlarmRequest(alarm_id=alarm_id)
        ManagementStub(channel).ReleaseAlarm(request, timeout=CALL_SECONDS)
    print(f"Alarm {alarm_id} is released; what it held back is applied within a minute.")


def run_listing(listing: Listing, options: argparse.Namespace, settings: Settings) -> None:
    """Fetch and print a listing. Raises ``ControlPlaneError`` that says what to do."""
    with admin_channel(settings) as channel:
        messages = listing.fetch(DiagnosticsStub(channel), options)
    form = choose_format(options.format, sys.stdout)
    show(messages, listing.columns, form)
    if form == "table" and listing is QUARANTINE and any(map(_is_alarm, messages)):
        print("An alarm waits for an operator: vsg-controlplane quarantine --release alarm:...")


def _is_alarm(entry: Message) -> bool:
    return isinstance(entry, diagnostics_pb2.QuarantineEntry) and entry.object.startswith("alarm:")
