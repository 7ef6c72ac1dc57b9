"""What is read to be compared, and the provider's choices."""

from dataclasses import dataclass

from controlplane.interfaces import RecordedDeletes
from controlplane.inventory.adoption import Adoption
from controlplane.placement.audited import PlacementAudited
from controlplane.store.audited import OwnAudited
from controlplane.store.glance.audited import GlanceAudited
from controlplane.store.nova.audited import NovaAudited


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
