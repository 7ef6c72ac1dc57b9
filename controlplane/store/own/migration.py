"""Upgrades the gateway database to this version: `vsg-controlplane db upgrade`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from controlplane.store.database import Database
from controlplane.store.error_translation import translate
from controlplane.store.errors import SchemaError

FOLDER = Path(__file__).with_name("migrations")


def upgrade(database: Database, revision: str = "head") -> None:
    """Run every migration that the database lacks. Running it again does nothing.

    Raises ``StoreError``.
    """
    try:
        with database.engine.begin() as connection:
            command.upgrade(_config(connection), revision)
    except SQLAlchemyError as error:
        raise translate(error) from error


def check(database: Database) -> None:
    """Raise ``SchemaError`` unless the tables are those of this version."""
    with database.read() as connection:
        present = MigrationContext.configure(connection).get_current_heads()
    wanted = ScriptDirectory(str(FOLDER)).get_heads()
    if set(present) != set(wanted):
        raise SchemaError(
            f"{database.name}: the tables are at revision {', '.join(present) or 'none'}, this "
            f"version needs {', '.join(wanted)}: run `vsg-controlplane db upgrade`"
        )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config
