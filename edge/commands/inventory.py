"""`vsg-edge inventory`: what this edge would report. Needs vCenter, and no control plane."""

import json
import sys
from typing import Any, Final, Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from edge.appliance.machine import machine_uuid
from edge.commands.exit_code import ExitCode
from edge.commands.inventory_report import InventoryReport, Section, read_report
from edge.config import EdgeConfig
from edge.errors import SecretUnreadableError
from edge.vcenter.client.faults import VCenterError
from edge.vcenter.client.session import VCenterSession

_WIDE: Final = 160
"""Characters of a terminal on which identifiers have room too."""
_ONLY_WIDE: Final = frozenset(("instance_uuid", "reference"))

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
    """Return the report as one JSON object with a list for each kind."""
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
    with Console(stderr=True).status(f"reading {config.vcenter.host}"):
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
                _print_aligned(section, stream)
            else:
                _print_plain(section, stream)


def _print_aligned(section: Section, stream: TextIO) -> None:
    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    shown = [
        index
        for index, title in enumerate(section.columns)
        if console.width >= _WIDE or title not in _ONLY_WIDE
    ]
    table = Table(box=box.SIMPLE_HEAD)
    for index in shown:
        numeric = all(type(row[index]) is int for row in section.rows)
        table.add_column(
            section.columns[index].replace("_", " "),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=index == 0,
        )
    for row in section.rows:
        table.add_row(*(_text(row[index]) for index in shown))
    console.print(table)


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
