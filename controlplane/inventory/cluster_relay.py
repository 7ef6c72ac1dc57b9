"""Tells everybody who has to know about managed clusters.

The inventory is made before those who listen to it, since they ask it questions themselves.
"""

from controlplane.domain.ports import ClusterEvents


class ClusterRelay:
    """A ``ClusterEvents`` that passes on. Listeners are added before anything happens."""

    def __init__(self) -> None:
        self._listeners: list[ClusterEvents] = []

    def add(self, listener: ClusterEvents) -> None:
        """Tell ``listener`` too, after those before it."""
        self._listeners.append(listener)

    def cluster_found(self, cluster_uuid: str) -> None:
        """A cluster came under management, or its hosts changed."""
        for listener in self._listeners:
            listener.cluster_found(cluster_uuid)

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        """Every server of the cluster is in the cell database."""
        for listener in self._listeners:
            listener.cluster_synchronised(cluster_uuid)

    def allocations_written(self, cluster_uuid: str) -> None:
        """Placement holds the allocations of every server of the cluster."""
        for listener in self._listeners:
            listener.allocations_written(cluster_uuid)

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        """A cluster left management, or the last server of one that did has ended."""
        for listener in self._listeners:
            listener.cluster_gone(cluster_uuid, reason)
