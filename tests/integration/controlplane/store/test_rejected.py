"""What MariaDB cannot do now is told apart from what it rejects, which is bisected out."""

import threading
from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy
from sqlalchemy.engine import Connection

from controlplane.store import bulk
from controlplane.store.database import Database
from controlplane.store.errors import (
    DatabaseUnavailableError,
    RowRejectedError,
    StatementRejectedError,
)
from tests.support.servers import Databases

THINGS = sqlalchemy.Table(
    "things",
    sqlalchemy.MetaData(),
    sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True),
    sqlalchemy.Column("size", sqlalchemy.Integer, nullable=False),
)


@pytest.fixture
def database(mariadb: Databases) -> Iterator[Database]:
    made = Database(mariadb.create_database("rejected"), pool_size=2, sleep=lambda _: None)

    def create(connection: Connection) -> None:
        connection.exec_driver_sql(
            "CREATE TABLE things (id INT PRIMARY KEY, size INT NOT NULL CHECK (size < 100))"
        )

    made.run(create)
    yield made
    made.close()


def test_value_that_a_constraint_forbids_is_bisected_out(database: Database) -> None:
    def write(rows: Sequence[dict[str, int]]) -> list[str]:
        database.run(lambda connection: bulk.insert(connection, THINGS, rows))
        return ["written"] * len(rows)

    rows = [{"id": number, "size": 500 if number == 3 else 1} for number in range(8)]
    outcomes = bulk.bisect_rejected(rows, write, lambda row, reason: f"{row['id']}: {reason}")

    assert outcomes.count("written") == 7
    assert outcomes[3].startswith("3: ")
    assert "CONSTRAINT" in outcomes[3]


def test_unknown_column_comes_again_and_is_bisected_out(database: Database) -> None:
    database.run(lambda connection: connection.exec_driver_sql("ALTER TABLE things DROP size"))

    def write(rows: Sequence[dict[str, int]]) -> list[str]:
        database.run(lambda connection: bulk.insert(connection, THINGS, rows))
        return ["written"] * len(rows)

    rows = [{"id": number, "size": 1} for number in range(3)]
    outcomes = bulk.bisect_rejected(rows, write, lambda _, reason: reason)

    assert len(outcomes) == 3
    assert all("Unknown column 'size'" in reason for reason in outcomes)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT nothing FROM things", StatementRejectedError),
        ("SELECT * FROM no_such_table", StatementRejectedError),
        ("SELEC", StatementRejectedError),
        ("INSERT INTO things VALUES (1, 'many')", RowRejectedError),
        ("INSERT INTO things VALUES (1, 99999999999)", RowRejectedError),
        ("INSERT INTO things VALUES (1, NULL)", RowRejectedError),
        ("INSERT INTO things VALUES (1, 1), (1, 1)", RowRejectedError),
    ],
)
def test_error_that_would_come_again_is_no_unavailability(
    database: Database, statement: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        database.run(lambda connection: connection.exec_driver_sql(statement))

    assert not isinstance(caught.value, DatabaseUnavailableError)


def test_connection_that_the_server_ended_is_unavailability(database: Database) -> None:
    def lose(connection: Connection) -> None:
        number = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
        with database.read() as other:
            other.exec_driver_sql(f"KILL {number}")
        connection.exec_driver_sql("SELECT 1")

    with pytest.raises(DatabaseUnavailableError):
        database.run(lose)


def test_wrong_password_and_missing_database_are_unavailability(database: Database) -> None:
    url = database.engine.url
    for other in (url.set(password="wrong"), url.set(database="nobody_made_it")):
        with pytest.raises(DatabaseUnavailableError):
            Database(other.render_as_string(hide_password=False)).run(lambda _: None)


def test_lock_that_another_transaction_keeps_is_unavailability(database: Database) -> None:
    database.run(lambda c: bulk.insert(c, THINGS, [{"id": 1, "size": 1}]))
    locked, go_on = threading.Event(), threading.Event()

    def keep(connection: Connection) -> None:
        connection.execute(sqlalchemy.select(THINGS).with_for_update())
        locked.set()
        go_on.wait(60)

    def want(connection: Connection) -> None:
        connection.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 0")
        connection.execute(sqlalchemy.select(THINGS).with_for_update())

    keeper = threading.Thread(target=database.run, args=(keep,))
    keeper.start()
    try:
        assert locked.wait(60)
        with pytest.raises(DatabaseUnavailableError):
            database.run(want)
    finally:
        go_on.set()
        keeper.join()


def test_pool_without_a_free_connection_is_unavailability(mariadb: Databases) -> None:
    small = Database(mariadb.create_database("small"), pool_size=1)
    small.engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    with small.read(), small.read(), pytest.raises(DatabaseUnavailableError, match="in use"):
        small.run(lambda _: None)
    small.close()
