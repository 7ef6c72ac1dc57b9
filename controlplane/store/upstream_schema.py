"""Nova's and Glance's tables, made by Nova's and Glance's own migrations.

Run as a process of its own (``python -m controlplane.store.upstream_schema``), because the upstream
migrations are configured by process-wide options.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from controlplane.store.errors import StoreError

KINDS = ("nova-api", "nova-cell", "glance")
_NOVA_FOLDERS = {"nova-api": "nova.db.api", "nova-cell": "nova.db.main"}


def create(schemas: dict[str, str]) -> None:
    """Create or upgrade schemas by kind (``KINDS``) and URL, each in a process of its own.

    Raises ``StoreError`` with what the migrations said.
    """
    with ThreadPoolExecutor(len(schemas) or 1) as pool:
        results = list(pool.map(_migrate, schemas, schemas.values()))
    failures = [
        f"{kind}: {result.stdout.strip()[-2000:]}"
        for kind, result in zip(schemas, results, strict=True)
        if result.returncode
    ]
    if failures:
        raise StoreError("migrations failed: " + "; ".join(failures))


def _migrate(kind: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, kind],
        input=url,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


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
    """Migrate the one database whose URL comes on standard input: it may hold a password."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    kind = parser.parse_args().kind
    url = sys.stdin.read().strip()
    if kind == "glance":
        _migrate_glance(url)
    else:
        _migrate_nova(kind, url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
