"""Everybody who asked learns of each cluster's events, in order."""

from controlplane.inventory.cluster_events import ClusterRelay


def test_every_listener_is_told_in_order() -> None:
    told: list[tuple[str, str, str]] = []

    class Listener:
        def __init__(self, name: str) -> None:
            self.name = name

        def cluster_found(self, cluster_uuid: str) -> None:
            told.append((self.name, "found", cluster_uuid))

        def cluster_synchronised(self, cluster_uuid: str) -> None:
            told.append((self.name, "synchronised", cluster_uuid))

        def allocations_written(self, cluster_uuid: str) -> None:
            told.append((self.name, "allocated", cluster_uuid))

        def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
            told.append((self.name, reason, cluster_uuid))

    relay = ClusterRelay()
    relay.add(Listener("a"))
    relay.add(Listener("b"))
    relay.cluster_found("c")
    relay.cluster_synchronised("c")
    relay.allocations_written("c")
    relay.cluster_gone("c", "gone")
    assert [what for name, what, _ in told if name == "a"] == [
        "found", "synchronised", "allocated", "gone",
    ]  # fmt: skip
    assert [name for name, *_ in told] == ["a", "b"] * 4
