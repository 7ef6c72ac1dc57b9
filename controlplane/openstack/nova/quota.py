"""Adoption must not stop a project: its quota counts servers that nobody asked OpenStack for.

Nova sums up what a project has and refuses new servers once that exceeds the limit, 10 servers by
default. A limit that is not reached yet stops the next server, or a larger one, just the same. So
every project that holds adopted servers gets unlimited servers, processors and memory, through
Nova's API or, where Nova uses unified limits, through Keystone's.
"""

import logging
from dataclasses import dataclass

from common.log_fields import fields
from controlplane.openstack.keystone.limits import UNLIMITED, UnifiedLimits
from controlplane.openstack.nova.api import NovaApi

LOG = logging.getLogger(__name__)

RESOURCES = ("instances", "cores", "ram")


@dataclass(frozen=True, slots=True)
class Overrun:
    """A project that has no room, or less than none, under a limit."""

    project_id: str
    resource: str
    in_use: int
    limit: int

    def __str__(self) -> str:
        usage = f"uses {self.in_use} {self.resource}, its limit is {self.limit}"
        return f"project {self.project_id} {usage}"


class Quotas:
    """Lifts the limits of projects, or finds those that have reached one."""

    def __init__(self, nova: NovaApi, limits: UnifiedLimits | None) -> None:
        """``limits`` where Nova uses unified limits."""
        self._nova = nova
        self._limits = limits

    def overruns(self, project_id: str) -> list[Overrun]:
        """Return the limits of a project that are reached. Raises ``NovaApiError``."""
        found = self._nova.quota(project_id)
        return [
            Overrun(project_id, resource, found[resource]["in_use"], found[resource]["limit"])
            for resource in RESOURCES
            if UNLIMITED != found[resource]["limit"] <= found[resource]["in_use"]
        ]

    def lift(self, project_id: str) -> None:
        """Make servers, processors and memory of a project unlimited, where they are not.

        Raises ``NovaApiError`` or ``KeystoneError``.
        """
        before = self._limits.lift(project_id) if self._limits else self._lift(project_id)
        if before:
            LOG.info("quota lifted", extra=fields(project=project_id, before=before))

    def _lift(self, project_id: str) -> dict[str, int]:
        """Lift legacy limits; return those that there were."""
        found = self._nova.quota(project_id)
        limits = {name: found[name]["limit"] for name in RESOURCES}
        before = {name: limit for name, limit in limits.items() if limit != UNLIMITED}
        if before:
            self._nova.set_quota(project_id, dict.fromkeys(before, UNLIMITED))
        return before
