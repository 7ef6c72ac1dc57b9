"""The index as a table for a terminal, or in a form for other programs."""

import datetime
import json
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from certs.identity import PeerIdentity

FORMATS = ("table", "plain", "json")
COLUMNS = ("Serial", "Role", "Name", "Not before", "Not after", "State")


def print_index(entries: Sequence[PeerIdentity], form: str | None, now: datetime.datetime) -> None:
    """Print issued certificates; ``form`` None means a table on a terminal, else plain."""
    form = form or ("table" if sys.stdout.isatty() else "plain")
    rows = [_row(entry, now) for entry in entries]
    if form == "json":
        keys = [column.lower().replace(" ", "_") for column in COLUMNS]
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
    elif form == "plain":
        for row in (COLUMNS, *rows):
            print("\t".join(row))
    else:
        table = Table(*COLUMNS, box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*row)
        Console().print(table)


def _row(entry: PeerIdentity, now: datetime.datetime) -> tuple[str, ...]:
    if now < entry.not_before:
        state = "not yet valid"
    else:
        state = "expired" if now > entry.not_after else "valid"
    return (
        entry.serial,
        entry.role.value,
        entry.name,
        entry.not_before.isoformat(timespec="seconds"),
        entry.not_after.isoformat(timespec="seconds"),
        state,
    )
