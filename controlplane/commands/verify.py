"""`vsg-controlplane verify`: whether vCenter, Nova, Glance, placement and our database agree."""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from common.terminal import ESSENTIAL, Column, choose_format, print_sentence
from controlplane.commands.admin_client import admin_channel
from controlplane.commands.output import as_json, show
from controlplane.config.settings import Settings
from controlplane.domain.errors import ConfigurationError, ControlPlaneError
from vsphere_gateway.v1 import diagnostics_pb2
from vsphere_gateway.v1.diagnostics_pb2_grpc import DiagnosticsStub

VERIFY_SECONDS = 3600.0
"""Longest time for everything."""
EXIT_SAME = 0
EXIT_DIFFERENT = 1
EXIT_NOT_VERIFIED = 3


def _or_nothing(text: str) -> str:
    return text or "nothing"


DIFFERENCES = (
    Column("Object", lambda one: one.object, rank=ESSENTIAL),
    Column("Name", lambda one: one.name or "-"),
    Column("Where", lambda one: one.place),
    Column("Field", lambda one: one.field, rank=ESSENTIAL),
    Column("Expected", lambda one: _or_nothing(one.expected), prose=True, rank=ESSENTIAL),
    Column("Found", lambda one: _or_nothing(one.found), prose=True, rank=ESSENTIAL),
    Column("vCenter", lambda one: one.vcenter_uuid),
)
EXCUSED = (
    Column("Excused", lambda one: one.object, rank=ESSENTIAL),
    Column("Name", lambda one: one.name or "-"),
    Column("Why", lambda one: one.reason, prose=True, rank=ESSENTIAL),
    Column("vCenter", lambda one: one.vcenter_uuid),
)


def verify(form: str | None, settings: Settings) -> int:
    """Verify and print what was found; return the exit code.

    0: nothing differs; 1: something does; 3: something could not be verified, and nothing that
    could differs. Raises ``ConfigurationError``.
    """
    try:
        differences, excused, summary = _fetch(settings)
    except ConfigurationError:
        raise
    except ControlPlaneError as error:
        print(f"vsg-controlplane: {error}", file=sys.stderr)
        return EXIT_NOT_VERIFIED
    form = choose_format(form, sys.stdout)
    if form == "json":
        print(json.dumps(_document(differences, excused, summary), indent=2))
    else:
        _show(differences, excused, summary, form)
    if differences:
        return EXIT_DIFFERENT
    verified = bool(summary.vcenters) and all(one.verified for one in summary.vcenters)
    return EXIT_SAME if verified else EXIT_NOT_VERIFIED


def _fetch(
    settings: Settings,
) -> tuple[list[Message], list[Message], diagnostics_pb2.VerifySummary]:
    differences: list[Message] = []
    excused: list[Message] = []
    summary = diagnostics_pb2.VerifySummary()
    with admin_channel(settings) as channel:
        request = diagnostics_pb2.VerifyRequest()
        for response in DiagnosticsStub(channel).Verify(request, timeout=VERIFY_SECONDS):
            match response.WhichOneof("message"):
                case "difference":
                    differences.append(response.difference)
                case "excused":
                    excused.append(response.excused)
                case "summary":
                    summary = response.summary
    return differences, excused, summary


def _document(
    differences: Sequence[Message],
    excused: Sequence[Message],
    summary: diagnostics_pb2.VerifySummary,
) -> dict[str, Any]:
    compared: dict[str, dict[str, int]] = defaultdict(dict)
    for one in summary.compared:
        compared[one.place][one.kind] = one.count
    return {
        "differences": [as_json(one) for one in differences],
        "excused": [as_json(one) for one in excused],
        "compared": compared,
        "vcenters": [as_json(one) for one in summary.vcenters],
        "seconds": summary.seconds,
    }


def _show(
    differences: Sequence[Message],
    excused: Sequence[Message],
    summary: diagnostics_pb2.VerifySummary,
    form: str,
) -> None:
    """Print tables: differences where there are any, what was excused, and a sentence."""
    if differences:
        show(differences, DIFFERENCES, form)
    if excused:
        show(excused, EXCUSED, form)
    counts = ", ".join(f"{one.count} {one.kind} in {one.place}" for one in summary.compared)
    _say(f"Compared in {summary.seconds:.1f} s: {counts or 'nothing'}.")
    _say(f"Differences: {len(differences)}. Excused: {len(excused)}.")
    for vcenter in summary.vcenters:
        if not vcenter.verified:
            _say(f"vCenter {vcenter.uuid} could not be verified: {vcenter.reason}.")
    if not summary.vcenters:
        _say("No vCenter is known: nothing was verified.")


def _say(sentence: str) -> None:
    print_sentence(sentence, sys.stdout)
