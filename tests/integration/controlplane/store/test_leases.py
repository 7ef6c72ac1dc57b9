"""A lease on the database's clock, which processes on several machines share."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection

from common.timestamps import naive_utc_now
from controlplane.store.database import Database
from controlplane.store.own import leases, migration, schema
from tests.support.servers import Databases

MINUTE = timedelta(minutes=1)
RESOURCE = "controlplane"


@pytest.fixture(params=["mariadb", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'gateway.sqlite'}"
    else:
        mariadb: Databases = request.getfixturevalue("mariadb")
        url = mariadb.create_database("leases")
    made = Database(url)
    migration.upgrade(made)
    yield made
    made.close()


def acquire(database: Database, holder: str) -> leases.LeaseRow:
    def take(connection: Connection) -> leases.LeaseRow:
        now = leases.database_time(connection)
        return leases.acquire(connection, RESOURCE, holder, now, MINUTE)

    return database.run(take)


def release(database: Database, holder: str) -> None:
    def give_back(connection: Connection) -> None:
        leases.release(connection, RESOURCE, holder, leases.database_time(connection))

    database.run(give_back)


def expire(database: Database, at: datetime) -> None:
    def write(connection: Connection) -> None:
        connection.execute(update(schema.leases).values(expires_at=at))

    database.run(write)


def test_database_s_clock_is_utc(database: Database) -> None:
    with database.read() as connection:
        assert abs(leases.database_time(connection) - naive_utc_now()) < timedelta(seconds=10)


def test_lease_is_renewed_by_its_holder_and_by_no_other_before_its_end(database: Database) -> None:
    first = acquire(database, "one")
    assert acquire(database, "two").holder == "one"
    renewed = acquire(database, "one")
    assert (renewed.holder, renewed.fencing_epoch) == ("one", 1)
    assert renewed.expires_at > first.expires_at
    assert renewed.acquired_at == first.acquired_at


def test_lease_that_ended_or_was_given_back_is_taken_and_fences(database: Database) -> None:
    acquire(database, "one")
    expire(database, naive_utc_now() - MINUTE)
    taken = acquire(database, "two")
    assert (taken.holder, taken.fencing_epoch) == ("two", 2)
    release(database, "one")
    assert acquire(database, "one").holder == "two", "only the holder gives a lease back"
    release(database, "two")
    assert acquire(database, "one").fencing_epoch == 3
