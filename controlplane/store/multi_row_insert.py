"""INSERT statements of many rows for MariaDB and MySQL.

PyMySQL folds `executemany` too, but escapes every value of every row through five calls, which is
two thirds of the processor time of a first sync. Here a value is escaped once for each column of a
statement, however many rows share it: most values are keys, servers and defaults.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from pymysql.constants import SERVER_STATUS
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from controlplane.store.errors import RowRejectedError, StoreError

STATEMENT_LENGTH = 1_000_000
"""Characters after which a new statement begins; the smallest max_allowed_packet is 16 MiB."""

_VERBATIM = {"no_parameters": True}

Literal = Callable[[Any], str]


def execute(connection: Connection, table: Table, rows: Sequence[Any], suffix: str) -> None:
    """Insert rows, mappings that all have the same keys; ``suffix`` ends each statement."""
    server_status = connection.connection.dbapi_connection.server_status  # type: ignore[union-attr]
    if server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES:
        raise StoreError("sql_mode NO_BACKSLASH_ESCAPES is not supported")
    columns = list(rows[0])
    names = ", ".join(f"`{table.c[column].name}`" for column in columns)
    head = f"INSERT INTO `{table.name}` ({names}) VALUES "
    for values in _statements(_tuples(rows, columns)):
        # A % in a value is no placeholder.
        connection.exec_driver_sql(f"{head}{values}{suffix}", execution_options=_VERBATIM)


def _statements(tuples: Iterable[str]) -> Iterator[str]:
    pending: list[str] = []
    length = 0
    for text in tuples:
        pending.append(text)
        length += len(text)
        if length > STATEMENT_LENGTH:
            yield ",".join(pending)
            pending, length = [], 0
    if pending:
        yield ",".join(pending)


def _tuples(rows: Sequence[Any], columns: Sequence[str]) -> list[str]:
    """`(value, ...)` for each row."""
    texts = [_column([row[column] for row in rows]) for column in columns]
    return [f"({','.join(values)})" for values in zip(*texts, strict=True)]


def _column(values: list[Any]) -> list[str]:
    kinds = {type(value) for value in values}
    if len(kinds) > 1 or dict in kinds:  # True equals 1, and a dict has no hash
        return [_literal(value) for value in values]
    literals = {value: _literal(value) for value in set(values)}
    return [literals[value] for value in values]


def _literal(value: Any) -> str:
    try:
        return _LITERALS[type(value)](value)
    except KeyError:
        raise RowRejectedError(f"no column holds a {type(value).__name__}") from None


def _string(value: str) -> str:
    # Within single quotes only these two have a meaning (MariaDB, "String Literals").
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _datetime(value: datetime) -> str:
    return (
        f"'{value:%Y-%m-%d %H:%M:%S.%f}'" if value.microsecond else f"'{value:%Y-%m-%d %H:%M:%S}'"
    )


_LITERALS: dict[type, Literal] = {
    type(None): lambda _: "NULL",
    bool: lambda value: "1" if value else "0",
    bytes: lambda value: f"X'{value.hex()}'",
    datetime: _datetime,
    dict: lambda value: _string(json.dumps(value)),
    float: repr,
    int: str,
    str: _string,
}
