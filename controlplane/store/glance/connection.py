"""Glance's database, by the `glance-api.conf` that Glance itself reads."""

from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from controlplane.store.database import Database

_OPTIONS = [cfg.StrOpt("metadata_encryption_key", secret=True)]
_DATABASE = [cfg.StrOpt("connection", secret=True)]


class GlanceConfigError(Exception):
    """The `glance-api.conf` cannot be used; the message names file, section and key."""


@dataclass(frozen=True, slots=True)
class GlanceDatabase:
    """Where images are written."""

    database: Database
    encrypts_locations: bool
    """Glance keeps locations encrypted, so ours cannot be written."""


def open_database(file: Path) -> GlanceDatabase:
    """Open the database that ``file`` names. Raises ``GlanceConfigError``."""
    options = cfg.ConfigOpts()
    try:
        options(args=[], project="glance", default_config_files=[str(file)])
    except (cfg.ConfigFilesNotFoundError, cfg.ConfigFilesPermissionDeniedError) as error:
        message = f"{file}: cannot be read, it must be Glance's glance-api.conf"
        raise GlanceConfigError(message) from error
    except cfg.ConfigFileParseError as error:
        raise GlanceConfigError(f"{file}: {error}") from error
    options.register_opts(_OPTIONS)
    options.register_opts(_DATABASE, group="database")
    if not options.database.connection:
        raise GlanceConfigError(f"{file}: [database] connection is missing")
    return GlanceDatabase(
        database=Database(options.database.connection, pool_size=2),
        encrypts_locations=bool(options.metadata_encryption_key),
    )
