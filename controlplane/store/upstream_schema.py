"""Nova's and Glance's tables, made by Nova's and Glance's own migrations.

Run as a process of its own (``python -m controlplane.store.upstream_schema``), because the upstream
migrations are configured by process-wide options.
"""

import json
import subprocess
import sys
from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from controlplane.store.errors import StoreError

KINDS = ("nova-api", "nova-cell", "glance")
_NOVA_FOLDERS = {"nova-api": "nova.db.api", "nova-cell": "nova.db.main"}


def create(schemas: dict[str, str]) -> None:
    """Create or upgrade schemas, given as URLs by kind (``KINDS``).

    Raises ``StoreError`` with what the migrations said.
    """
    # One process for all: importing Nova costs more than its migrations. The URLs may hold
    # passwords, so they do not travel on the command line.
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__],
        input=json.dumps(schemas),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        raise StoreError(f"migrations failed: {result.stdout.strip()[-2000:]}")


def _migrate_nova(kind: str, url: str) -> None:
    """As nova/db/migration.py:db_sync, which would read the URL from a `nova.conf`."""
    config = Config(str(resources.files(_NOVA_FOLDERS[kind]) / "alembic.ini"))
    config.attributes["configure_logger"] = False
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _migrate_glance(url: str) -> None:
    """As `glance-manage db_sync` without metadata definitions (glance/cmd/manage.py)."""
    from glance.db.sqlalchemy import alembic_migrations
    from oslo_db.sqlalchemy import enginefacade

    enginefacade.configure(connection=url)
    config = alembic_migrations.get_alembic_config(create_engine(url))
    command.upgrade(config, "heads")


def main() -> int:
    """Migrate the databases that standard input names."""
    for kind, url in json.load(sys.stdin).items():
        if kind == "glance":
            _migrate_glance(url)
        else:
            _migrate_nova(kind, url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
