"""What migrations make is what the code expects, and what an older version left is mended."""

from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from controlplane.store.database import Database
from controlplane.store.errors import SchemaError
from controlplane.store.own import migration, operations, servers

NOW = datetime(2026, 11, 22, 12)  # noqa: DTZ001 - as the columns hold it


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
