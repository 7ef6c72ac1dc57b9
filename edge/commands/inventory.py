"""`vsg-edge inventory`: what this edge would report. Needs vCenter, and no control plane."""

import json
import sys
from typing import Any, Final, Literal, TextIO

from common.terminal import ESSENTIAL, Column, console_for, print_table
from edge.appliance.machine import machine_uuid
from edge.commands.exit_code import ExitCode
from edge.commands.inventory_report import InventoryReport, Section, read_report
from edge.config import EdgeConfig
from edge.errors import SecretUnreadableError
from edge.vcenter.client.faults import VCenterError
from edge.vcenter.client.session import VCenterSession

_PROSE: Final = frozenset(("reason",))
"""Columns of sentences."""
_SPELLED: Final = {
    "cpus": "CPUs", "drs": "DRS", "gib": "GiB", "ha": "HA", "mib": "MiB", "uuid": "UUID",
    "vlan": "VLAN",
}  # fmt: skip

OutputFormat = Literal["table", "json"]


def run_inventory(
    config: EdgeConfig, output_format: OutputFormat = "table", stream: TextIO | None = None
) -> ExitCode:
    """Print the managed inventory to ``stream`` (standard output).

    Tables are aligned on a terminal and tab-separated elsewhere. FAILED means that vCenter cannot
    be read, or that no cluster is managed.
    """
    stream = stream or sys.stdout
    try:
        report = _read(config)
    except (VCenterError, SecretUnreadableError) as error:
        print(f"{config.file}: [vcenter]: {error}", file=sys.stderr)
        return ExitCode.FAILED
    if output_format == "json":
        json.dump(as_json(report), stream, indent=2)
        stream.write("\n")
    else:
        _print_tables(report, stream)
    if not any(report.clusters.values()):
        print(_no_cluster(config, report), file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK


def as_json(report: InventoryReport) -> dict[str, Any]:
    """The report as one JSON object with a list for each kind."""
    vcenter = report.vcenter
    content: dict[str, Any] = {
        "vcenter": {
            "instance_uuid": vcenter.instance_uuid,
            "full_name": vcenter.full_name,
            "version": vcenter.version,
            "build": vcenter.build,
        }
    }
    for section in report.sections():
        content[section.name] = [
            dict(zip(section.columns, row, strict=True)) for row in section.rows
        ]
    return content


def _read(config: EdgeConfig) -> InventoryReport:
    session = VCenterSession(config.vcenter)
    with console_for(sys.stderr).status(f"reading {config.vcenter.host}"):
        try:
            session.connect()
            return read_report(session, config.managed, machine_uuid())
        finally:
            session.close()


def _no_cluster(config: EdgeConfig, report: InventoryReport) -> str:
    patterns = ", ".join(config.managed.clusters)
    shown = ", ".join(sorted(report.clusters)) or "none; does the user have System.View on them?"
    return (
        f"{config.file}: managed.clusters: nothing matches {patterns}; the clusters that vCenter"
        f" shows are: {shown}"
    )


def _print_tables(report: InventoryReport, stream: TextIO) -> None:
    vcenter = report.vcenter
    stream.write(f"{vcenter.full_name} ({vcenter.instance_uuid})\n")
    for section in report.sections():
        if section.rows:
            stream.write(f"\n{section.name.replace('_', ' ')}: {len(section.rows)}\n")
            if stream.isatty():
                columns = [_column(section, index) for index in range(len(section.columns))]
                print_table(section.rows, columns, stream)
            else:
                _print_plain(section, stream)


def _column(section: Section, index: int) -> Column:
    title = section.columns[index]
    cells = [row[index] for row in section.rows]
    return Column(
        _heading(title),
        lambda row: _text(row[index]),
        right=all(type(cell) is int for cell in cells),
        prose=title in _PROSE or any(isinstance(cell, list) for cell in cells),
        rank=ESSENTIAL if index == 0 or title in _PROSE else 0,
    )


def _heading(title: str) -> str:
    first, *others = [_SPELLED.get(word, word) for word in title.split("_")]
    return " ".join([first[:1].upper() + first[1:], *others])


def _print_plain(section: Section, stream: TextIO) -> None:
    stream.write("\t".join(section.columns) + "\n")
    for row in section.rows:
        stream.write("\t".join(" ".join(_text(cell).split()) for cell in row) + "\n")


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, list):
        return ", ".join(cell)
    return str(cell)
