"""Rows for people and for programs: an aligned table, plain lines with tabs, or JSON."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, cast

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

FORMATS = ("table", "plain", "json")

PROSE_WIDTH = 24
"""Least number of characters for a column of sentences."""

TONES = {
    "red": frozenset({"offline", "failed", "alarm", "no", "unknown", "expired", "ERROR"}),
    "yellow": frozenset({"new", "provisioned", "starting", "pending", "partial", "stopped"}),
    "green": frozenset({"online", "active", "running", "done", "ACTIVE", "connected", "yes"}),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    text: Callable[[Any], str]
    right: bool = False
    """A number, aligned to the right."""
    prose: bool = False
    """A sentence, which may be broken into lines."""


def choose(form: str | None, file: TextIO) -> str:
    """Return the format asked for: by default a table on a terminal, else plain."""
    return form or ("table" if file.isatty() else "plain")


def show(
    messages: Sequence[Message], columns: Sequence[Column], form: str, file: TextIO | None = None
) -> None:
    """Print messages. JSON has all their fields, the others the columns."""
    file = file or sys.stdout
    if form == "json":
        print(json.dumps([as_json(message) for message in messages], indent=2), file=file)
    elif form == "plain":
        for line in ([column.title for column in columns], *_rows(messages, columns)):
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in line), file=file)
    else:
        _print_table(messages, columns, file)


def as_json(message: Message) -> dict[str, Any]:
    """Return every field of a message: times as RFC 3339 or null, enums as lower-case words."""
    fields = cast(Iterable[FieldDescriptor], message.DESCRIPTOR.fields)
    return {field.name: _value(message, field) for field in fields}


def _value(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if isinstance(value, timestamp_pb2.Timestamp):
        return value.ToJsonString() if message.HasField(field.name) else None
    if field.enum_type is not None:
        name = field.enum_type.values_by_number[value].name
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        return name.removeprefix(prefix).lower()
    return list(value) if field.is_repeated else value


def _rows(messages: Sequence[Message], columns: Sequence[Column]) -> list[list[str]]:
    return [[column.text(message) for column in columns] for message in messages]


def _print_table(messages: Sequence[Message], columns: Sequence[Column], file: TextIO) -> None:
    """Print a table. Identifiers stay in one piece, even where the terminal is too narrow."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.prose,
            min_width=PROSE_WIDTH if column.prose else None,
        )
    for row in _rows(messages, columns):
        table.add_row(*(Text(cell, style=_tone(cell)) for cell in row))
    console = Console(file=file)
    if not messages:
        console.print("None.", style="dim")
        return
    needed = console.measure(table, options=console.options.update(max_width=10_000)).minimum
    console.width = max(console.width, needed)
    console.print(table)


def _tone(cell: str) -> str:
    return next((tone for tone, words in TONES.items() if cell in words), "")
