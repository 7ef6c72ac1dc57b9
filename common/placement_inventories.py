"""What placement should hold of a cluster: the control plane writes it first, then Nova's driver.

Both compute it here, so that neither undoes what the other wrote.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

LARGEST_INTEGER = 2**31 - 1
"""Of placement's columns."""


@dataclass(frozen=True, slots=True)
class Amount:
    """One resource class of a cluster."""

    total: int
    used: int
    largest: int
    """What one server may have of it at most."""


def inventories(amounts: Mapping[str, Amount], stored: Mapping[str, Json]) -> dict[str, Json]:
    """Compute the inventories that a provider should have, other resource classes included.

    The ratio covers what runs already, because clusters are overcommitted as a rule; a higher one
    that Nova has set stays.
    """
    wanted = dict(stored)
    for name, amount in amounts.items():
        base = {"allocation_ratio": 1.0, "max_unit": 1, **stored.get(name, {})}
        wanted[name] = fitting({**base, "total": max(amount.total, 1)}, amount.used, amount.largest)
    return wanted


def fitting(inventory: Json, used: int, largest: int) -> Json:
    """Raise the ratio and the largest amount of an inventory until ``used`` and ``largest`` fit."""
    total = max(inventory["total"] - inventory.get("reserved", 0), 1)
    ratio = float(inventory["allocation_ratio"])
    if used > total * ratio:
        # Placement keeps seven digits of it: a little more than exact, or it would not be enough.
        ratio = math.ceil(used / total * 100 + 1) / 100
    max_unit = min(max(int(inventory["max_unit"]), largest), LARGEST_INTEGER)
    return {**inventory, "allocation_ratio": ratio, "max_unit": max_unit}
