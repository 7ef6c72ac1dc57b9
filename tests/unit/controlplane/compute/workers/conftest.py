"""A supervisor with real processes and own tables; Nova's rows are noted, not written.

The writer of Nova's rows is a fake because its own tests cover it on real schemas; what is asked
here is in which order and with which reasons it is called. The workers are small scripts: the real
one is started in tests/integration/compute.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.store.database import Database
from controlplane.store.own import migration
from tests.support.supervisor_stage import SupervisorStage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[SupervisorStage]:
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    migration.upgrade(database)
    stage = SupervisorStage(database, tmp_path)
    stage.begin()
    yield stage
    stage.supervisor.stop()
    database.close()
