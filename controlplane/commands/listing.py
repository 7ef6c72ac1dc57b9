"""What a command does with the admin listener: list something, or release an alarm."""

import argparse
import sys

from google.protobuf.message import Message

from common.terminal import choose_format
from controlplane.commands.admin_client import admin_channel
from controlplane.commands.listings import CALL_SECONDS, QUARANTINE, Listing
from controlplane.commands.output import show
from controlplane.config.settings import Settings
from vsphere_gateway.v1 import diagnostics_pb2, management_pb2
from vsphere_gateway.v1.diagnostics_pb2_grpc import DiagnosticsStub
from vsphere_gateway.v1.management_pb2_grpc import ManagementStub


def release(alarm_id: str, settings: Settings) -> None:
    """Release an alarm. Raises ``ControlPlaneError`` with what to do about it."""
    with admin_channel(settings) as channel:
        request = management_pb2.ReleaseAlarmRequest(alarm_id=alarm_id)
        ManagementStub(channel).ReleaseAlarm(request, timeout=CALL_SECONDS)
    print(f"Alarm {alarm_id} is released; what it held back goes on within a minute.")


def list_it(listing: Listing, options: argparse.Namespace, settings: Settings) -> None:
    """Fetch and print. Raises ``ControlPlaneError`` with what to do about it."""
    with admin_channel(settings) as channel:
        messages = listing.fetch(DiagnosticsStub(channel), options)
    form = choose_format(options.format, sys.stdout)
    show(messages, listing.columns, form)
    if form == "table" and listing is QUARANTINE and any(map(_is_alarm, messages)):
        print("An alarm waits for a person: vsg-controlplane quarantine --release alarm:...")


def _is_alarm(entry: Message) -> bool:
    return isinstance(entry, diagnostics_pb2.QuarantineEntry) and entry.object.startswith("alarm:")
