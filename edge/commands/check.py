"""`vsg-edge check`: the preflight as a table, plain lines or JSON."""

import json
import sys
from collections.abc import Iterable
from typing import TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge.commands.exit_code import ExitCode
from edge.commands.preflight import Item, Outcome, preflight
from edge.config import EdgeConfig
from edge.scrub import scrub

_STYLES = {Outcome.PASS: "green", Outcome.FAIL: "bold red", Outcome.SKIP: "yellow"}


def run_check(config: EdgeConfig, output_format: str, stream: TextIO | None = None) -> ExitCode:
    """Look at everything and print it to ``stream`` (standard output); OK when all passed."""
    stream = stream or sys.stdout
    with Console(stderr=True).status("checking") as status:
        items = []
        for item in preflight(config):
            items.append(item)
            status.update(f"checking; {item.name}: {item.outcome.value}")
    if output_format == "json":
        _print_json(items, stream)
    elif stream.isatty():
        _print_table(items, stream)
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


def _print_table(items: Iterable[Item], stream: TextIO) -> None:
    table = Table("check", "result", "detail", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    table.columns[2].overflow = "fold"
    for item in items:
        style = _STYLES[item.outcome]
        result = f"[{style}]{item.outcome.value}[/{style}]"
        table.add_row(item.name, result, escape(scrub(item.detail)))
    Console(file=stream, highlight=False, emoji=False).print(table)


def _print_plain(items: Iterable[Item], stream: TextIO) -> None:
    for item in items:
        stream.write(f"{item.name}\t{item.outcome.value}\t{scrub(item.detail)}\n")
