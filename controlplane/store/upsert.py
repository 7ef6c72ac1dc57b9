"""Insert or update many rows with one statement, on both kinds of database."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Connection

ROWS_PER_STATEMENT = 1000


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
    statement = _statement(connection.dialect.name, table, tuple(update))
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        connection.execute(statement, rows[start : start + ROWS_PER_STATEMENT])


def _statement(dialect: str, table: Table, update: tuple[str, ...]) -> Any:
    if dialect == "sqlite":
        lite = sqlite.insert(table)
        if not update:
            return lite.on_conflict_do_nothing()
        return lite.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={n: lite.excluded[n] for n in update}
        )
    maria = mysql.insert(table)
    if not update:
        return maria.prefix_with("IGNORE")
    return maria.on_duplicate_key_update({name: maria.inserted[name] for name in update})
