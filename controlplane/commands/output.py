"""Messages of the admin listener as a table, plain lines with tabs, or JSON."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO, cast

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from common.terminal import Column, print_plain, print_table

TONES = {
    "red": frozenset({"offline", "failed", "alarm", "no", "unknown", "expired", "ERROR"}),
    "yellow": frozenset({"new", "provisioned", "starting", "pending", "partial", "stopped"}),
    "green": frozenset({"online", "active", "running", "done", "ACTIVE", "connected", "yes"}),
}


def show(
    messages: Sequence[Message], columns: Sequence[Column], form: str, file: TextIO | None = None
) -> None:
    """Print messages. JSON has all their fields, the others the columns."""
    file = file or sys.stdout
    if form == "json":
        print(json.dumps([as_json(message) for message in messages], indent=2), file=file)
    elif form == "plain":
        print_plain(messages, columns, file)
    else:
        print_table(messages, columns, file, _tone)


def as_json(message: Message) -> dict[str, Any]:
    """Every field of a message: times as RFC 3339 or null, enums as lower-case words."""
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


def _tone(cell: str) -> str:
    return next((tone for tone, words in TONES.items() if cell in words), "")
