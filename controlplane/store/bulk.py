"""Many rows in one statement on both kinds of database, and batches with a row that is rejected."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, RowMapping

from controlplane.store import multi_row_insert
from controlplane.store.errors import StatementRejectedError

Row = Mapping[str, Any]
Item = TypeVar("Item")
Done = TypeVar("Done")

BATCH = 500
"""Servers in one transaction: large enough to amortise statements, small enough to lock briefly."""


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same keys, in one statement."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(table.insert(), rows)
    else:
        multi_row_insert.execute(connection, table, rows, "")


def update(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Write rows that exist, known by ``id``, in one statement.

    The rows must be locked, all have the same keys and hold every column that is NOT NULL. It is an
    upsert on the primary key, because no UPDATE takes many rows.
    """
    upsert(connection, table, rows)


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    changing: Collection[str] | None = None,
) -> None:
    """Insert ``rows``, all with the same keys; a row whose primary key is taken is updated.

    ``changing`` names the columns that are written then; the default is every column given that is
    no part of the primary key. An empty ``changing`` leaves such rows alone.
    """
    if not rows:
        return
    if changing is None:
        keys = {column.name for column in table.primary_key}
        changing = [name for name in rows[0] if name not in keys]
    if connection.dialect.name == "sqlite":
        connection.execute(_sqlite_upsert(table, changing), rows)
    else:
        multi_row_insert.execute(connection, table, rows, _on_duplicate_key(table, changing))


def select_in(
    connection: Connection, table: Table, columns: Iterable[str], key: str, values: Iterable[Any]
) -> Sequence[RowMapping]:
    """Read columns of all rows whose ``key`` is among ``values``, deleted rows included."""
    wanted = [table.c[column] for column in columns]
    statement = sqlalchemy.select(*wanted).where(table.c[key].in_(list(values)))
    return connection.execute(statement).mappings().all()


def delete(connection: Connection, table: Table, ids: Sequence[int]) -> None:
    """Delete rows, which Nova's own soft deletes keep."""
    if ids:
        connection.execute(table.delete().where(table.c.id.in_(ids)))


def batches(items: Sequence[Item], size: int = BATCH) -> Iterable[Sequence[Item]]:
    """Cut a sequence into pieces."""
    return (items[start : start + size] for start in range(0, len(items), size))


def bisect_rejected(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], list[Done]],
    refuse: Callable[[Item, str], Done],
) -> list[Done]:
    """Run ``work`` over all items; what the database rejects is found by halving, the rest goes on.

    ``work`` must do all or nothing. ``refuse`` makes the result for an item that is rejected alone.
    Results are in the order of the items. Other errors pass: a database that is away rejects
    nothing.
    """
    if not items:
        return []
    try:
        return work(items)
    except StatementRejectedError as error:
        if len(items) == 1:
            return [refuse(items[0], str(error))]
        half = len(items) // 2
        return [
            *bisect_rejected(items[:half], work, refuse),
            *bisect_rejected(items[half:], work, refuse),
        ]


def _on_duplicate_key(table: Table, changing: Collection[str]) -> str:
    # Nothing to change: the key is set to what it is, for IGNORE would hide rejected values too.
    names = changing or [next(iter(table.primary_key)).name]
    assignments = ", ".join(f"`{n}`=VALUES(`{n}`)" if changing else f"`{n}`=`{n}`" for n in names)
    return f" ON DUPLICATE KEY UPDATE {assignments}"


def _sqlite_upsert(table: Table, changing: Collection[str]) -> Any:
    statement = sqlite.insert(table)
    if not changing:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={name: statement.excluded[name] for name in changing},
    )
