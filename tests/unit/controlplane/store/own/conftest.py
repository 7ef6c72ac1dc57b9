"""A gateway database in SQLite, as the migrations make it."""

from pathlib import Path

import pytest

from controlplane.store.database import Database
from controlplane.store.own import migration


@pytest.fixture
def own(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'own.sqlite'}")
    migration.upgrade(database)
    return database
