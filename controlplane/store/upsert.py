"""Insert or update many rows with one statement, on both kinds of database."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from controlplane.store import multi_row_insert as folded


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    update: Collection[str] | None = None,
) -> None:
    """Insert ``rows``, all with the same keys; a row whose primary key is taken is updated.

    ``update`` names the columns that are written then; the default is every column given that is
    no part of the primary key. An empty ``update`` leaves such rows alone.
    """
    if not rows:
        return
    if update is None:
        keys = {column.name for column in table.primary_key}
        update = [name for name in rows[0] if name not in keys]
    if connection.dialect.name == "sqlite":
        connection.execute(_sqlite(table, tuple(update)), rows)
    else:
        folded.execute(connection, table, rows, _suffix(table, update))


def _suffix(table: Table, update: Collection[str]) -> str:
    # Nothing to update: the key is set to what it is, for IGNORE would hide refused values too.
    names = update or [next(iter(table.primary_key)).name]
    assignments = ", ".join(f"`{n}`=VALUES(`{n}`)" if update else f"`{n}`=`{n}`" for n in names)
    return f" ON DUPLICATE KEY UPDATE {assignments}"


def _sqlite(table: Table, update: tuple[str, ...]) -> Any:
    statement = sqlite.insert(table)
    if not update:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={name: statement.excluded[name] for name in update},
    )
