"""The gateway database: what migrations make is what the code expects, and leases fence."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError, RowRejectedError, SchemaError
from controlplane.store.own import leases, migration, operations, quarantine, servers
from controlplane.store.own.quarantine import QuarantineRow

NOW = datetime(2026, 11, 22, 12)  # noqa: DTZ001 - as the columns hold it


@pytest.fixture
def own(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'own.sqlite'}")
    migration.upgrade(database)
    return database


def test_migrations_make_the_tables_that_the_code_expects(own: Database) -> None:
    migration.upgrade(own)
    migration.check(own)
    with own.engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, operations.metadata) == []


def test_servers_that_an_older_version_handed_on_and_forgot_are_found_again(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'older.sqlite'}")
    migration.upgrade(database, "0003")
    fields = {column.name: "" for column in servers.servers.c} | {
        "derived": False, "cpus": 1, "memory_mb": 1, "disk_gb": 1, "adopted_at": NOW,
        "removed_at": NOW, "state": "unmanaged",
    }  # fmt: skip
    handed_on = "its virtual machine is gone; another with its UUID takes over"
    rows = [
        {**fields, "uuid": "1", "removed_reason": handed_on},
        {**fields, "uuid": "2", "removed_reason": "moved out of the managed clusters"},
        {**fields, "uuid": "3", "removed_reason": handed_on, "state": "active"},
    ]
    database.run(lambda c: c.execute(servers.servers.insert(), rows))
    migration.upgrade(database)
    with database.read() as connection:
        states = {row.uuid: row.state.value for row in servers.get(connection, ["1", "2", "3"])}
    assert states == {"1": "handed_on", "2": "unmanaged", "3": "active"}


def test_missing_tables_are_told_with_the_command_that_makes_them(tmp_path: Path) -> None:
    empty = Database(f"sqlite:///{tmp_path / 'empty.sqlite'}")

    with pytest.raises(SchemaError, match="vsg-controlplane db upgrade"):
        migration.check(empty)


def test_lease_changes_hands_only_after_it_expired_and_fences(own: Database) -> None:
    minute = timedelta(minutes=1)

    def acquire(holder: str, now: datetime) -> leases.LeaseRow:
        return own.run(lambda c: leases.acquire(c, "vcenter:1", holder, now, minute))

    first = acquire("edge-1", NOW)
    assert (first.holder, first.fencing_epoch) == ("edge-1", 1)
    assert acquire("edge-2", NOW).holder == "edge-1"
    assert acquire("edge-1", NOW + minute / 2).expires_at == NOW + minute * 1.5
    taken = acquire("edge-2", NOW + 2 * minute)
    assert (taken.holder, taken.fencing_epoch) == ("edge-2", 2)

    own.run(lambda c: leases.release(c, "vcenter:1", "edge-2", NOW + 2 * minute))
    assert acquire("edge-1", NOW + 2 * minute).fencing_epoch == 3


def test_object_in_quarantine_keeps_its_beginning(own: Database) -> None:
    row = QuarantineRow("vc", "VirtualMachine:vm-1", "ROW_REFUSED", "m", "n", None, NOW, NOW)
    later = NOW + timedelta(hours=1)
    again = QuarantineRow(
        "vc", "VirtualMachine:vm-1", "ROW_REFUSED", "m2", "n", b"h" * 16, later, later, 2
    )

    own.run(lambda c: quarantine.put(c, [row]))
    own.run(lambda c: quarantine.put(c, [again]))

    with own.read() as connection:
        (found,) = quarantine.list_all(connection)
    assert (found.since, found.tried_at, found.attempts, found.message) == (NOW, later, 2, "m2")


def test_server_that_is_not_there_is_unavailable_not_refused() -> None:
    nobody = Database("mysql+pymysql://u:secret@127.0.0.1:1/x")

    with pytest.raises(DatabaseUnavailableError):
        nobody.run(lambda connection: None)
    assert "secret" not in nobody.name


def test_value_that_breaks_a_rule_of_the_table_is_refused(own: Database) -> None:
    broken = QuarantineRow("vc", "k", None, "m", "n", None, NOW, NOW)  # type: ignore[arg-type]

    with pytest.raises(RowRejectedError):
        own.run(lambda c: quarantine.put(c, [broken]))
