"""What SQLite cannot do now is told apart from what it rejects."""

from pathlib import Path

import pytest

from controlplane.store.database import Database
from controlplane.store.errors import (
    DatabaseUnavailableError,
    RowRejectedError,
    StatementRejectedError,
)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'some.sqlite'}", sleep=lambda _: None)
    made.run(lambda c: c.exec_driver_sql("CREATE TABLE things (id INT PRIMARY KEY, size INT)"))
    return made


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT nothing FROM things", StatementRejectedError),
        ("SELECT * FROM no_such_table", StatementRejectedError),
        ("INSERT INTO things VALUES (1, 1), (1, 1)", RowRejectedError),
    ],
)
def test_error_that_would_come_again_is_no_unavailability(
    database: Database, statement: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        database.run(lambda connection: connection.exec_driver_sql(statement))

    assert not isinstance(caught.value, DatabaseUnavailableError)


def test_file_that_cannot_be_opened_is_unavailability(tmp_path: Path) -> None:
    folder = tmp_path / "a folder.sqlite"
    folder.mkdir()

    with pytest.raises(DatabaseUnavailableError):
        Database(f"sqlite:///{folder}").run(lambda _: None)


def test_write_lock_that_another_process_keeps_is_unavailability(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("controlplane.store.database._SQLITE_BUSY_SECONDS", 0.01)
    other = Database(f"sqlite:///{tmp_path / 'some.sqlite'}", sleep=lambda _: None)

    with database.engine.begin() as holder:
        holder.exec_driver_sql("INSERT INTO things VALUES (1, 1)")
        with pytest.raises(DatabaseUnavailableError):
            other.run(lambda _: None)


def test_server_that_is_not_there_is_unavailable_not_refused() -> None:
    nobody = Database("mysql+pymysql://u:secret@127.0.0.1:1/x")

    with pytest.raises(DatabaseUnavailableError):
        nobody.run(lambda connection: None)
    assert "secret" not in nobody.name
