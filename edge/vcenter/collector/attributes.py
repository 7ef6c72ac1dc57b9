"""Names of custom attributes, and tags of virtual machines.

The PropertyCollector announces a change of neither, so the polling pass reads them.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Final

from common.log_fields import fields
from common.references import Key
from edge.vcenter.client import faults
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.client.tagging import TaggingService

log = logging.getLogger(__name__)

_READS_PER_NAME: Final = 10
"""A renamed tag is seen after this many reads: each name costs a request of its own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """What was read last; what could not be read is as it was read before."""

    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names of custom attributes by the number of their definition."""
    tags: Mapping[Key, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Sorted ``category:name`` by virtual machine."""


class AttributeReader:
    """Reads attributes; a service that fails is logged once and does not stop inventory."""

    def __init__(self, session: VCenterSession) -> None:
        self._session = session
        self._tagging = TaggingService(session)
        self._last = Attributes()
        self._failing: set[str] = set()
        self._reads = 0

    def read(self) -> Attributes:
        """Read all. Raises ``SessionExpiredError`` only."""
        names, tags = self._last.names, self._last.tags
        self._reads += 1
        if self._reads % _READS_PER_NAME == 0:
            self._tagging.forget_names()
        try:
            names = self._read_names()
            self._note("custom attributes", None)
        except faults.SessionExpiredError:
            raise
        except faults.VCenterError as error:
            self._note("custom attributes", error)
        try:
            tags = self._tagging.read_tags()
            self._note("tags", None)
        except faults.VCenterError as error:
            self._note("tags", error)
        self._last = Attributes(names, tags)
        return self._last

    def close(self) -> None:
        """End the tagging service's session. Never raises."""
        self._tagging.close()

    def _read_names(self) -> dict[str, str]:
        manager = self._session.content.customFieldsManager
        if manager is None:
            return {}
        # None, not an empty list, while nobody has defined any.
        return {str(field.key): str(field.name) for field in manager.field or ()}

    def _note(self, what: str, error: faults.VCenterError | None) -> None:
        if error is None:
            if what in self._failing:
                log.info("can be read again", extra=fields(name=what))
            self._failing.discard(what)
        elif what not in self._failing:
            log.warning(
                "cannot be read, what was read last is kept", extra=fields(name=what, error=error)
            )
            self._failing.add(what)
