"""Runs one listing against the admin listener."""

import argparse
import sys

from controlplane.commands.admin_client import admin_channel
from controlplane.commands.listings import Listing
from controlplane.commands.output import choose, show
from controlplane.config import Settings
from vsphere_gateway.v1.diagnostics_pb2_grpc import DiagnosticsStub


def list_it(listing: Listing, options: argparse.Namespace, settings: Settings) -> None:
    """Fetch and print. Raises ``ControlPlaneError`` with what to do about it."""
    with admin_channel(settings) as channel:
        messages = listing.fetch(DiagnosticsStub(channel), options)
    show(messages, listing.columns, choose(options.format, sys.stdout))
