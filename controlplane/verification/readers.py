"""What is read to be compared, and the provider's choices."""

from dataclasses import dataclass

from controlplane.domain.ports import RecordedDeletes
from controlplane.inventory.rules.adoption import Adoption
from controlplane.openstack.placement.client import PlacementClient
from controlplane.store.glance.readers import GlanceReader
from controlplane.store.nova.readers import NovaReader
from controlplane.store.own.readers import GatewayDatabaseReader


@dataclass(frozen=True, slots=True)
class Readers:
    """All that one control plane writes. Raise ``StoreError`` or ``PlacementError``."""

    own: GatewayDatabaseReader
    nova: NovaReader
    glance: GlanceReader
    placement: PlacementClient | None
    """None where no placement runs."""
    deletes: RecordedDeletes
    rules: Adoption
    """Whose things are."""
