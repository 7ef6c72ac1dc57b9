"""Many rows in one statement, and batches with a row that the database refuses."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Table, bindparam
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.sql import Executable

from controlplane.store.errors import RowRefusedError

Row = Mapping[str, Any]
Item = TypeVar("Item")
Done = TypeVar("Done")

BATCH = 500
"""Servers in one transaction: large enough to amortise statements, small enough to lock briefly."""


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same keys, in one statement (PyMySQL folds executemany)."""
    if rows:
        connection.execute(table.insert(), rows)


def update(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Write rows that exist, known by ``id``, in one statement.

    The rows must be locked, all have the same keys and hold every column that is NOT NULL. It is an
    upsert on the primary key, because no UPDATE takes many rows.
    """
    if rows:
        columns = tuple(sorted(rows[0]))
        connection.execute(_upsert(table, columns, connection.dialect.name), rows)


@functools.lru_cache(maxsize=256)
def _upsert(table: Table, columns: tuple[str, ...], dialect: str) -> Executable:
    values: dict[str, Any] = {column: bindparam(column) for column in columns}
    changed = [column for column in columns if column != "id"]
    if dialect == "sqlite":
        statement = sqlite.insert(table).values(values)
        return statement.on_conflict_do_update(
            index_elements=["id"], set_={column: statement.excluded[column] for column in changed}
        )
    inserted = mysql.insert(table).values(values)
    return inserted.on_duplicate_key_update(
        {column: inserted.inserted[column] for column in changed}
    )


def select_in(
    connection: Connection, table: Table, columns: Iterable[str], key: str, values: Iterable[Any]
) -> Sequence[RowMapping]:
    """Return the columns of all rows whose ``key`` is among ``values``, deleted rows included."""
    wanted = [table.c[column] for column in columns]
    statement = sqlalchemy.select(*wanted).where(table.c[key].in_(list(values)))
    return connection.execute(statement).mappings().all()


def delete(connection: Connection, table: Table, ids: Sequence[int]) -> None:
    """Delete rows for good."""
    if ids:
        connection.execute(table.delete().where(table.c.id.in_(ids)))


def batches(items: Sequence[Item], size: int = BATCH) -> Iterable[Sequence[Item]]:
    """Cut a sequence into pieces."""
    return (items[start : start + size] for start in range(0, len(items), size))


def without_poison(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], list[Done]],
    refuse: Callable[[Item, str], Done],
) -> list[Done]:
    """Run ``work`` over all items; when values are refused, halve until the culprits are alone.

    ``work`` must do all or nothing. ``refuse`` makes the result for a culprit. Results are in the
    order of the items. Other errors pass.
    """
    if not items:
        return []
    try:
        return work(items)
    except RowRefusedError as error:
        if len(items) == 1:
            return [refuse(items[0], str(error))]
        half = len(items) // 2
        return [
            *without_poison(items[:half], work, refuse),
            *without_poison(items[half:], work, refuse),
        ]
