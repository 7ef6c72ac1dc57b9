"""Nova's and Glance's databases as their own migrations make them, without their services."""

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.store.database import Database
from controlplane.store.nova.cells import NovaDatabases


@dataclass(frozen=True)
class OpenStackDatabases:
    """Nova's and Glance's databases of one kind, shared by all tests of a run."""

    nova: NovaDatabases
    glance: Database
    own_url: Callable[[], str]
    """Makes an empty database for the gateway database."""
