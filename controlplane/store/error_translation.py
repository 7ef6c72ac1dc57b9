"""Which of the driver's errors are worth repeating: each becomes one of our own by its code."""

import sqlite3

from pymysql.constants import CR, ER
from sqlalchemy import exc

from controlplane.store.errors import (
    DatabaseUnavailableError,
    RowRejectedError,
    StatementRejectedError,
    StoreError,
)

_CONFLICTS = frozenset({ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK})
_READ_ONLY_MODE = 1836
"""MySQL's ER_READ_ONLY_MODE, which PyMySQL does not name."""
_UNAVAILABLE = _CONFLICTS | {
    # The connection.
    ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED, ER.HOST_IS_BLOCKED,
    ER.ABORTING_CONNECTION, ER.NEW_ABORTING_CONNECTION, ER.NET_READ_ERROR,
    ER.NET_READ_INTERRUPTED, ER.NET_ERROR_ON_WRITE, ER.NET_WRITE_INTERRUPTED,
    CR.CR_CONNECTION_ERROR, CR.CR_CONN_HOST_ERROR, CR.CR_UNKNOWN_HOST, CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST, CR.CR_COMMANDS_OUT_OF_SYNC,
    # The server: it stops, is a replica that was not promoted, or is no Galera primary (1047).
    ER.SERVER_SHUTDOWN, ER.NORMAL_SHUTDOWN, ER.OPTION_PREVENTS_STATEMENT, _READ_ONLY_MODE,
    ER.UNKNOWN_COM_ERROR, ER.QUERY_INTERRUPTED, ER.STATEMENT_TIMEOUT,
    # Its resources.
    ER.DISK_FULL, ER.RECORD_FILE_FULL, ER.OUTOFMEMORY, ER.OUT_OF_SORTMEMORY, ER.OUT_OF_RESOURCES,
    ER.LOCK_TABLE_FULL,
}  # fmt: skip
_BAD_VALUES = frozenset({ER.NET_PACKET_TOO_LARGE, ER.CONSTRAINT_FAILED, ER.TRUNCATED_WRONG_VALUE})
"""Those that PyMySQL does not class as errors of data or integrity."""
_SQLITE_CONFLICTS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_UNAVAILABLE = _SQLITE_CONFLICTS | {
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
}  # fmt: skip
_SQLITE_PRIMARY_CODE = 0xFF
"""The low byte of an extended result code."""


def is_conflict(error: exc.DBAPIError) -> bool:
    """Whether the server rolled back the transaction for another's: it may begin anew at once."""
    codes = _SQLITE_CONFLICTS if isinstance(error.orig, sqlite3.Error) else _CONFLICTS
    return _code(error) in codes


def translate(error: exc.SQLAlchemyError) -> StoreError:
    """Make our error of one of SQLAlchemy's, with the driver's text."""
    if isinstance(error, exc.TimeoutError):
        return DatabaseUnavailableError(f"every connection is in use: {error}")
    if isinstance(error, exc.DBAPIError):
        text = str(error.orig)
        if _is_unavailable(error):
            return DatabaseUnavailableError(text)
        return RowRejectedError(text) if _is_bad_value(error) else StatementRejectedError(text)
    if isinstance(error, exc.StatementError):  # a value that could not be bound
        return RowRejectedError(str(error))
    return StatementRejectedError(str(error))


def _is_unavailable(error: exc.DBAPIError) -> bool:
    # Without a statement it was connecting or committing that failed: no row is to blame.
    if error.connection_invalidated or error.statement is None:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return _code(error) in _SQLITE_UNAVAILABLE
    # PyMySQL raises these two for a connection whose packets are out of step.
    lost = isinstance(error, exc.InterfaceError | exc.InternalError)
    return lost or _code(error) in _UNAVAILABLE


def _is_bad_value(error: exc.DBAPIError) -> bool:
    values = exc.DataError | exc.IntegrityError | exc.NotSupportedError
    return isinstance(error, values) or _code(error) in _BAD_VALUES


def _code(error: exc.DBAPIError) -> int:
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & _SQLITE_PRIMARY_CODE
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0
