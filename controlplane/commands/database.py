"""``vsg-controlplane db upgrade``."""

from controlplane.config.settings import Settings
from controlplane.domain.errors import ControlPlaneError
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own import migration


def upgrade(settings: Settings) -> None:
    """Upgrade the gateway database to this version. Raises ``ControlPlaneError``."""
    try:
        database = Database(settings.required("database", "connection"))
    except StoreError as error:
        raise settings.problem("database", "connection", str(error)) from error
    try:
        migration.upgrade(database)
        migration.check(database)
    except StoreError as error:
        raise ControlPlaneError(f"{database.name}: {error}") from error
    finally:
        database.close()
    print(f"{database.name}: the tables are those of this version.")
