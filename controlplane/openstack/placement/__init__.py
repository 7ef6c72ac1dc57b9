"""Placement, by its API alone: resource providers, inventories, traits and allocations."""

from controlplane.openstack.placement.errors import (
    PlacementConflictError,
    PlacementError,
    PlacementRefusedError,
    PlacementUnavailableError,
)

__all__ = [
    "PlacementConflictError",
    "PlacementError",
    "PlacementRefusedError",
    "PlacementUnavailableError",
]
