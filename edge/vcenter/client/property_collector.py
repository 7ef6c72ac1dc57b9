"""vCenter's PropertyCollector in raw SOAP: what to watch, what changed, what to read.

The only way at the edge to read properties; only the requests are here. ``answers`` reads what
comes back as elements; where vSphere's own objects are needed, ``properties`` has pyVmomi make
them, which for a whole inventory would cost most of the time of a full read.
Source: vSphere Web Services API, PropertyCollector and ViewManager.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self
from xml.sax.saxutils import escape

from common.log_fields import fields
from common.references import Key
from edge.vcenter.client import faults
from edge.vcenter.client.answers import (
    continuation_token,
    parse_objects,
    references_in,
    returned_reference,
)
from edge.vcenter.client.property_specs import TYPE_SPECS, TypeSpec, view_types
from edge.vcenter.client.session import CALL_DEADLINE_SECONDS, WAIT_MARGIN_SECONDS, VCenterSession

log = logging.getLogger(__name__)

UPDATES_PER_PAGE: Final = 500
"""Most objects in one answer of WaitForUpdatesEx; vCenter may send fewer."""
_OBJECTS_PER_PAGE: Final = 1000
_FREE_DEADLINE_SECONDS: Final = 5.0
_COLLECTOR: Final = "PropertyCollector:propertyCollector"

_ENVELOPE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
    "<soapenv:Body>%s</soapenv:Body></soapenv:Envelope>"
)


class PropertyReader:
    """Reads properties once, with the session's default PropertyCollector."""

    def __init__(self, session: VCenterSession) -> None:
        self._session = session

    def read(
        self,
        keys: Sequence[Key],
        paths: Sequence[str],
        type_name: str,
        *,
        report_missing: bool = True,
    ) -> Iterator[bytes]:
        """Yield the pages of RetrievePropertiesEx for objects of one type.

        An object that does not exist is left out of the answer; with ``report_missing`` False it
        raises ``ManagedObjectNotFoundError`` instead. Raises ``VCenterError``.
        """
        return self.read_related(keys, {type_name: paths}, report_missing=report_missing)

    def read_related(
        self,
        keys: Sequence[Key],
        paths: Mapping[str, Sequence[str]],
        selection: str = "",
        *,
        report_missing: bool = False,
    ) -> Iterator[bytes]:
        """Yield the pages for objects, and what a ``selection`` (selectSet) of them leads to.

        ``paths`` is by type. Raises like ``read``.
        """
        sets = "".join(property_set(name, wanted) for name, wanted in paths.items())
        objects = "".join(object_set(key, selection) for key in keys)
        missing = "true" if report_missing else "false"
        return self._retrieve(
            f"<specSet>{sets}{objects}"
            f"<reportMissingObjectsInResults>{missing}</reportMissingObjectsInResults></specSet>"
        )

    def read_all(
        self, paths: Mapping[str, Sequence[str]], per_page: int = _OBJECTS_PER_PAGE
    ) -> Iterator[bytes]:
        """Yield the pages of everything that vCenter shows, root folder included.

        ``paths`` is by type; other types are left out. A page has ``per_page`` objects at most.

        The view is made afresh: the watch's own may miss what came later (vcsim's misses hosts).
        Raises ``VCenterError``.
        """
        with _View(self._session, paths) as view:
            sets = "".join(property_set(name, wanted) for name, wanted in paths.items())
            yield from self._retrieve(f"<specSet>{sets}{view.object_sets}</specSet>", per_page)

    def list_all(self, type_name: str) -> list[Key]:
        """List the keys of all objects of a type that vCenter shows. Raises ``VCenterError``."""
        with _View(self._session, [type_name]) as view:
            return [
                key
                for body in self.read([view.key], ["view"], "ContainerView")
                for found in parse_objects(body)
                for key in references_in(found.values.get("view"))
            ]

    def _retrieve(self, specification: str, per_page: int = _OBJECTS_PER_PAGE) -> Iterator[bytes]:
        options = f"<options><maxObjects>{per_page}</maxObjects></options>"
        body = _call(self._session, "RetrievePropertiesEx", _COLLECTOR, specification + options)
        yield body
        while token := continuation_token(body):
            body = _call(
                self._session,
                "ContinueRetrievePropertiesEx",
                _COLLECTOR,
                f"<token>{escape(token)}</token>",
            )
            yield body


class UpdateCollector:
    """A PropertyCollector of its own, whose filters report changes to whoever waits for them.

    It belongs to the login that it was made in, and ends with it.
    """

    def __init__(self, session: VCenterSession) -> None:
        """Raises ``VCenterError``."""
        self._session = session
        self.generation = session.generation
        """Of the login; see ``VCenterSession.generation``."""
        self._key = returned_reference(_call(session, "CreatePropertyCollector", _COLLECTOR))

    def create_filter(
        self, specification: str, deadline_seconds: float = CALL_DEADLINE_SECONDS
    ) -> Key:
        """Create a filter of a PropertyFilterSpec's content. Raises ``VCenterError``."""
        arguments = f"<spec>{specification}</spec><partialUpdates>false</partialUpdates>"
        return returned_reference(
            _call(self._session, "CreateFilter", self._key, arguments, deadline_seconds)
        )

    def wait(self, version: str, seconds: int) -> bytes:
        """Wait for what changes after ``version``, for ``seconds`` at most.

        The empty version asks for the present state. Raises ``VCenterError``;
        ``SessionExpiredError`` when the collector ended with its login.
        """
        options = (
            f"<options><maxWaitSeconds>{seconds}</maxWaitSeconds>"
            f"<maxObjectUpdates>{UPDATES_PER_PAGE}</maxObjectUpdates></options>"
        )
        arguments = f"<version>{escape(version)}</version>{options}"
        deadline = seconds + WAIT_MARGIN_SECONDS
        try:
            return _call(self._session, "WaitForUpdatesEx", self._key, arguments, deadline)
        except faults.ManagedObjectNotFoundError as error:
            raise faults.SessionExpiredError(f"the watch has ended: {error}") from error

    def destroy_filter(self, key: Key) -> None:
        """Free a filter. Never raises because of vCenter."""
        _free(self._session, "DestroyPropertyFilter", key)

    def close(self) -> None:
        """End a wait that is under way and free what vCenter holds. Never raises."""
        key, self._key = self._key, ""
        if key and self.is_alive:
            _free(self._session, "DestroyPropertyCollector", key)

    @property
    def is_alive(self) -> bool:
        """Whether the login that it was made in is the present one."""
        return self._session.is_logged_in and self.generation == self._session.generation


class InventoryWatch(PropertyReader):
    """One view of the whole inventory and one filter over it, alive as long as the session.

    ``close`` frees them.
    """

    def __init__(self, session: VCenterSession) -> None:
        """Raises ``VCenterError``."""
        super().__init__(session)
        self._view = _View(session, (spec.type for spec in TYPE_SPECS))
        try:
            self._updates = UpdateCollector(session)
        except faults.VCenterError:
            self._view.close()
            raise
        try:
            self._create_filter()
        except faults.VCenterError:
            self.close()
            raise

    def wait(self, version: str, seconds: int) -> bytes:
        """Wait for changes: see ``UpdateCollector.wait``."""
        return self._updates.wait(version, seconds)

    def close(self) -> None:
        """End a wait that is under way and free what vCenter holds. Never raises."""
        if self._updates.is_alive:
            self._updates.close()
            self._view.close()

    def _create_filter(self) -> None:
        """Create the filter, without properties that this vCenter does not know."""
        unknown: set[str] = set()
        while True:
            sets = "".join(_watched_set(spec, unknown) for spec in TYPE_SPECS)
            try:
                self._updates.create_filter(sets + self._view.object_sets)
            except faults.InvalidPropertyError as error:
                if not error.path or error.path in unknown:
                    raise
                log.warning("vCenter does not know a property", extra=fields(path=error.path))
                unknown.add(error.path)
            else:
                return


class _View:
    """A ContainerView of the whole inventory. A context manager: leaving destroys it."""

    def __init__(self, session: VCenterSession, wanted: Iterable[str]) -> None:
        """``wanted`` are names of types. Raises ``VCenterError``."""
        self._session = session
        types = "".join(f"<type>{name}</type>" for name in view_types(wanted))
        container = _object("container", session.root_folder)
        arguments = f"{container}{types}<recursive>true</recursive>"
        self.key = returned_reference(
            _call(session, "CreateContainerView", "ViewManager:ViewManager", arguments)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def object_sets(self) -> str:
        """Selects the root folder and what the view shows, and not the view itself."""
        through = (
            '<selectSet xsi:type="TraversalSpec"><name>view</name><type>ContainerView</type>'
            "<path>view</path><skip>false</skip></selectSet>"
        )
        return object_set(self._session.root_folder) + object_set(self.key, through, skip=True)

    def close(self) -> None:
        """Destroy the view. Never raises because of vCenter."""
        key, self.key = self.key, ""
        if key:
            _free(self._session, "DestroyView", key)


def property_set(type_name: str, paths: Iterable[str]) -> str:
    """Build a PropertySpec: which properties of objects of a type."""
    names = "".join(f"<pathSet>{path}</pathSet>" for path in paths)
    return f"<propSet><type>{type_name}</type>{names}</propSet>"


def object_set(key: Key, selection: str = "", *, skip: bool = False) -> str:
    """Build an ObjectSpec: an object, and the selectSet of what it leads to."""
    skipped = "<skip>true</skip>" if skip else ""
    return f"<objectSet>{_object('obj', key)}{skipped}{selection}</objectSet>"


def _watched_set(spec: TypeSpec, unknown: set[str]) -> str:
    return property_set(spec.type, (path for path in spec.watched if path not in unknown))


def _object(element: str, key: Key) -> str:
    type_name, _, value = key.partition(":")
    return f'<{element} type="{type_name}">{escape(value)}</{element}>'


def _free(session: VCenterSession, method: str, target: Key) -> None:
    """Free what vCenter holds for us. Never raises because of vCenter."""
    try:
        _call(session, method, target, deadline_seconds=_FREE_DEADLINE_SECONDS)
    except faults.VCenterError as error:
        log.debug("not freed", extra=fields(object=target, error=error))


def _call(
    session: VCenterSession,
    method: str,
    target: Key,
    arguments: str = "",
    deadline_seconds: float = CALL_DEADLINE_SECONDS,
) -> bytes:
    request = f'<{method} xmlns="urn:vim25">{_object("_this", target)}{arguments}</{method}>'
    return session.soap((_ENVELOPE % request).encode(), deadline_seconds)
