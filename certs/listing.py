"""The index as a table for a terminal, or in a form for other programs."""

import datetime
import json
import sys
from collections.abc import Sequence

from certs.identity import PeerIdentity
from common.terminal import ESSENTIAL, Column, choose_format, print_plain, print_table


def print_index(entries: Sequence[PeerIdentity], form: str | None, now: datetime.datetime) -> None:
    """Print issued certificates; ``form`` None means a table on a terminal, else plain."""
    form = choose_format(form, sys.stdout)
    columns = _columns(now)
    if form == "json":
        print(json.dumps([_as_json(entry, columns) for entry in entries], indent=2))
    elif form == "plain":
        print_plain(entries, columns, sys.stdout)
    else:
        print_table(entries, columns, sys.stdout)


def _columns(now: datetime.datetime) -> tuple[Column, ...]:
    return (
        Column("Serial", lambda entry: entry.serial),
        Column("Role", lambda entry: entry.role.value, rank=ESSENTIAL),
        Column("Name", lambda entry: entry.name, rank=ESSENTIAL),
        Column("Not before", lambda entry: entry.not_before.isoformat(timespec="seconds")),
        Column(
            "Not after", lambda entry: entry.not_after.isoformat(timespec="seconds"), rank=ESSENTIAL
        ),
        Column("State", lambda entry: _state(entry, now), rank=ESSENTIAL),
    )


def _as_json(entry: PeerIdentity, columns: Sequence[Column]) -> dict[str, str]:
    return {column.title.lower().replace(" ", "_"): column.text(entry) for column in columns}


def _state(entry: PeerIdentity, now: datetime.datetime) -> str:
    if now < entry.not_before:
        return "not yet valid"
    return "expired" if now > entry.not_after else "valid"
