"""Connections and transactions: the same for the gateway database, Nova's and Glance's.

Every transaction runs at READ COMMITTED and is retried as a whole when the server chose it as the
victim of a deadlock.
"""

import functools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection as Connection
from sqlalchemy.engine import Engine, make_url

from controlplane.store.error_translation import is_conflict, translate
from controlplane.store.errors import StoreError

Result = TypeVar("Result")

ATTEMPTS = 8
_SQLITE_BUSY_SECONDS = 30.0


class Database:
    """One database: an engine and the way to run a transaction in it. Thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare an engine for ``url`` (`mysql+pymysql://...` or `sqlite:///...`).

        Nothing is dialled before the first transaction. Raises ``StoreError`` when ``url`` is none.
        """
        try:
            self.engine = _engine(url, pool_size)
        except (exc.ArgumentError, ModuleNotFoundError) as error:
            raise StoreError(f"not the URL of a database that can be used: {error}") from error
        self.mysql = self.engine.dialect.name in ("mysql", "mariadb")
        self._sleep = sleep
        self._jitter = jitter

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self.engine.url.render_as_string(hide_password=True)

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in one transaction and commit; repeat the whole on a deadlock.

        ``work`` may run several times and must have no other effects. Raises
        ``DatabaseUnavailableError``, or for what would come again ``StatementRejectedError``.
        """
        for attempt in range(ATTEMPTS):
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except exc.DBAPIError as error:
                if attempt + 1 == ATTEMPTS or not is_conflict(error):
                    raise translate(error) from error
                self._sleep(0.01 * 2**attempt * (0.5 + self._jitter()))
            except exc.SQLAlchemyError as error:
                raise translate(error) from error
        raise AssertionError("unreachable")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection to read with; nothing is committed.

        Raises ``DatabaseUnavailableError`` or ``StatementRejectedError``.
        """
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(sqlite_immediate=False)
        except exc.SQLAlchemyError as error:
            raise translate(error) from error

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _engine(url: str, pool_size: int) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(url, pool_size)
    if "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    engine = sqlalchemy.create_engine(
        parsed,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_recycle=1800,
        pool_timeout=30,
        connect_args={"connect_timeout": 10, "read_timeout": 120, "write_timeout": 120},
    )
    event.listen(engine, "connect", _mysql_connected)
    return engine


def _mysql_connected(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 20")


def _sqlite_engine(url: str, pool_size: int) -> Engine:
    file = make_url(url).database
    memory = file in (None, "", ":memory:")
    if file and not memory:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_BUSY_SECONDS}}
    if not memory:
        options |= {"pool_size": pool_size, "max_overflow": pool_size}
    engine = sqlalchemy.create_engine(url, **options)
    event.listen(engine, "connect", functools.partial(_sqlite_connected, memory=memory))
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connected(connection: Any, _record: object, *, memory: bool) -> None:
    # The driver's own notion of transactions is off: `_sqlite_begin` takes the write lock at once,
    # which turns a deadlock between two upgrading readers into a wait.
    connection.isolation_level = None
    if not memory:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("sqlite_immediate", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
