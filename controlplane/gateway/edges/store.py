"""What the gateway keeps in the own tables."""

import datetime
from collections.abc import Collection
from typing import Protocol

from controlplane.store.own.edges import EdgeRow, VCenterRow
from controlplane.store.own.leases import LeaseRow


class GatewayStore(Protocol):
    """Implemented by ``controlplane.store.own.gateway``; every method raises ``StoreError``."""

    def acquire(
        self, resource: str, holder: str, now: datetime.datetime, duration: datetime.timedelta
    ) -> LeaseRow:
        """Take or renew a lease; another's is taken only after it has expired."""

    def lease(self, resource: str) -> LeaseRow | None:
        """Read a lease, expired or not."""

    def edges(self) -> list[EdgeRow]:
        """Read every edge that ever dialled."""

    def write_edges(self, rows: Collection[EdgeRow]) -> None:
        """Write edges as they are now."""

    def write_vcenter(self, row: VCenterRow) -> None:
        """Note a vCenter's name and version."""

    def vcenters(self) -> list[VCenterRow]:
        """Read every vCenter with its last parity."""
