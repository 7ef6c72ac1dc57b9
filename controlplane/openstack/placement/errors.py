"""What placement can answer instead of what was asked for."""


class PlacementError(Exception):
    """Placement did not do what was asked of it."""


class PlacementUnavailableError(PlacementError):
    """Placement or Keystone cannot be reached or is failing: the same call may succeed later."""


class PlacementConflictError(PlacementError):
    """Somebody else changed the provider or the consumer: read again, then repeat."""


class PlacementRefusedError(PlacementError):
    """Placement refuses the values themselves, for example more than the capacity."""
