"""Nova's databases: the API database of a `nova.conf`, and one cell by its mapping."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy
from sqlalchemy.engine import RowMapping

from controlplane.config.nova_config import NovaConfig, NovaConfigError
from controlplane.store.database import Database
from controlplane.store.nova.tables import CELL_MAPPINGS

CELL0 = "00000000-0000-0000-0000-000000000000"
"""nova/objects/cell_mapping.py:CellMapping.CELL0_UUID, which holds servers that never ran."""


@dataclass(frozen=True, slots=True)
class NovaDatabases:
    """The two databases that hold a server."""

    api: Database
    cell: Database
    cell_id: int
    """`cell_mappings.id`."""
    cell_name: str
    transport_url: str
    """Of the cell's message bus."""

    def close(self) -> None:
        """Close every connection."""
        self.api.close()
        self.cell.close()


def open_databases(config: NovaConfig, cell_name: str = "") -> NovaDatabases:
    """Open the API database and the named cell; the only cell when no name is given.

    Raises ``NovaConfigError`` when there is no such cell, and what ``Database.read`` raises.
    """
    api = Database(config.api_database)
    with api.read() as connection:
        mappings = connection.execute(
            sqlalchemy.select(CELL_MAPPINGS).where(CELL_MAPPINGS.c.uuid != CELL0)
        )
        mapping = _chosen(config, list(mappings.mappings()), cell_name)
    url = filled(mapping["database_connection"], config.database)
    return NovaDatabases(
        api=api,
        cell=Database(url),
        cell_id=mapping["id"],
        cell_name=mapping["name"] or mapping["uuid"],
        transport_url=filled(mapping["transport_url"], config.transport_url),
    )


def filled(url: str, default: str) -> str:
    """Fill a cell mapping's template from another URL (CellMapping._format_url).

    >>> filled("{scheme}://{username}:{password}@db2/cell1", "mysql+pymysql://nova:x@db1/cell0")
    'mysql+pymysql://nova:x@db2/cell1'
    """
    if "{" not in url:
        return url
    parts = urlsplit(default)
    substitutes = {
        "scheme": parts.scheme,
        "username": parts.username,
        "password": parts.password,
        "hostname": parts.hostname,
        "port": parts.port,
        "path": parts.path.lstrip("/"),
        "query": parts.query,
        "fragment": parts.fragment,
    }
    return url.format(**substitutes)


def _chosen(config: NovaConfig, mappings: list[RowMapping], cell_name: str) -> RowMapping:
    named = [row for row in mappings if not cell_name or cell_name in (row["name"], row["uuid"])]
    if len(named) == 1:
        return named[0]
    known = ", ".join(sorted(row["name"] or row["uuid"] for row in mappings)) or "none"
    if not named:
        raise NovaConfigError(
            f"{config.file}: the API database knows no cell {cell_name or 'besides cell0'}; "
            f"it has: {known}. Set [nova] cell, or run nova-manage cell_v2 create_cell"
        )
    raise NovaConfigError(
        f"{config.file}: the API database has several cells: {known}. Set [nova] cell to one"
    )
