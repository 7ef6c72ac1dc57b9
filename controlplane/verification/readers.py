"""What is read to be compared, and the provider's choices."""

from dataclasses import dataclass

from controlplane.domain.ports import RecordedDeletes
from controlplane.inventory.rules.adoption import Adoption
from controlplane.openstack.placement.readers import PlacementAudited
from controlplane.store.glance.readers import GlanceAudited
from controlplane.store.nova.readers import NovaAudited
from controlplane.store.own.readers import OwnAudited


@dataclass(frozen=True, slots=True)
class Readers:
    """All that one control plane writes. Raise ``StoreError`` or ``PlacementError``."""

    own: OwnAudited
    nova: NovaAudited
    glance: GlanceAudited
    placement: PlacementAudited | None
    """None where no placement runs."""
    deletes: RecordedDeletes
    rules: Adoption
    """Whose things are."""
