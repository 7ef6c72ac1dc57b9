"""`vsg-edge check`: the preflight as a table, plain lines or JSON."""

import json
import sys
from collections.abc import Iterable
from typing import TextIO

from common.terminal import ESSENTIAL, Column, console_for, print_table
from edge.commands.exit_code import ExitCode
from edge.commands.preflight import Item, Outcome, preflight
from edge.config import EdgeConfig
from edge.scrub import scrub

_STYLES = {
    Outcome.PASS.value: "green",
    Outcome.FAIL.value: "bold red",
    Outcome.SKIP.value: "yellow",
}
_COLUMNS = (
    Column("Check", lambda item: item.name, rank=ESSENTIAL),
    Column("Result", lambda item: item.outcome.value, rank=ESSENTIAL),
    Column("Detail", lambda item: scrub(item.detail), prose=True, rank=ESSENTIAL),
)


def run_check(config: EdgeConfig, output_format: str, stream: TextIO | None = None) -> ExitCode:
    """Look at everything and print it to ``stream`` (standard output); OK when all passed."""
    stream = stream or sys.stdout
    with console_for(sys.stderr).status("checking") as status:
        items = []
        for item in preflight(config):
            items.append(item)
            status.update(f"checking; {item.name}: {item.outcome.value}")
    if output_format == "json":
        _print_json(items, stream)
    elif stream.isatty():
        print_table(items, _COLUMNS, stream, lambda cell: _STYLES.get(cell, ""))
    else:
        _print_plain(items, stream)
    passed = all(item.outcome is Outcome.PASS for item in items)
    return ExitCode.OK if passed else ExitCode.FAILED


def _print_json(items: Iterable[Item], stream: TextIO) -> None:
    rows = [
        {"name": item.name, "outcome": item.outcome.value, "detail": scrub(item.detail)}
        for item in items
    ]
    json.dump(rows, stream, indent=2)
    stream.write("\n")


def _print_plain(items: Iterable[Item], stream: TextIO) -> None:
    for item in items:
        stream.write(f"{item.name}\t{item.outcome.value}\t{scrub(item.detail)}\n")
