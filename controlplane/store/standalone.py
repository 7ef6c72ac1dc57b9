"""Nova's and Glance's databases as SQLite files, for `serve --standalone`."""

import logging
import uuid
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import Connection

from common.log_fields import fields
from controlplane.store import bulk, upstream_schema
from controlplane.store.database import Database
from controlplane.store.nova.cells import CELL0, NovaDatabases
from controlplane.store.nova.tables import CELL_MAPPINGS

LOG = logging.getLogger(__name__)

CELL_NAME = "standalone"
_NO_BUS = "none:///"
_CELL_UUID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "standalone.vsphere-gateway"))


@dataclass(frozen=True, slots=True)
class StandaloneDatabases:
    """The databases of `serve --standalone`."""

    nova: NovaDatabases
    glance: Database

    def close(self) -> None:
        """Close every connection."""
        self.nova.close()
        self.glance.close()


def open_databases(folder: Path) -> StandaloneDatabases:
    """Open the SQLite files in ``folder``; make those that are missing (about 15 s).

    Raises ``StoreError`` when the migrations fail.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {kind: folder / f"{kind}.sqlite" for kind in upstream_schema.KINDS}
    _create_missing(files)
    urls = {kind: f"sqlite:///{file}" for kind, file in files.items()}
    api = Database(urls["nova-api"])
    cell_id = api.run(lambda connection: _map_cells(connection, urls["nova-cell"], folder))
    nova = NovaDatabases(
        api=api,
        cell=Database(urls["nova-cell"]),
        cell_id=cell_id,
        cell_name=CELL_NAME,
        transport_url=_NO_BUS,
    )
    return StandaloneDatabases(nova=nova, glance=Database(urls["glance"]))


def _create_missing(files: dict[str, Path]) -> None:
    missing = {kind: file for kind, file in files.items() if not file.exists()}
    if not missing:
        return
    facts = fields(directory=next(iter(files.values())).parent, kinds=",".join(missing))
    LOG.info("schemas are created", extra=facts)
    # A file appears under its name only when its migrations have ended.
    unfinished = {kind: file.with_suffix(".new") for kind, file in missing.items()}
    for file in unfinished.values():
        file.unlink(missing_ok=True)
    upstream_schema.create({kind: f"sqlite:///{file}" for kind, file in unfinished.items()})
    for kind, file in missing.items():
        unfinished[kind].rename(file)


def _map_cells(connection: Connection, cell_url: str, folder: Path) -> int:
    cells = {
        CELL0: ("cell0", f"sqlite:///{folder / 'cell0.sqlite'}"),
        _CELL_UUID: (CELL_NAME, cell_url),
    }
    rows = [
        {
            "uuid": cell_uuid,
            "name": name,
            "database_connection": url,
            "transport_url": _NO_BUS,
            "disabled": False,
        }
        for cell_uuid, (name, url) in cells.items()
    ]
    known = connection.execute(sqlalchemy.select(CELL_MAPPINGS.c.uuid)).scalars().all()
    bulk.insert(connection, CELL_MAPPINGS, [row for row in rows if row["uuid"] not in known])
    wanted = sqlalchemy.select(CELL_MAPPINGS.c.id).where(CELL_MAPPINGS.c.uuid == _CELL_UUID)
    return int(connection.execute(wanted).scalar_one())
