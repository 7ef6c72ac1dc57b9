"""vCenter's PropertyCollector in raw SOAP: what to watch, what changed, what to read.

Only the requests are here; ``answers`` reads what comes back. pyVmomi is not used because it spends
most of a full read's time in making Python objects of which few fields are wanted.
Source: vSphere Web Services API, PropertyCollector and ViewManager.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from common.references import Key
from edge.log import ERROR, NAME, OBJECT, fields
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
_CLOSE_DEADLINE_SECONDS: Final = 10.0
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
        objects = "".join(f"<objectSet>{_object('obj', key)}</objectSet>" for key in keys)
        missing = "true" if report_missing else "false"
        yield from self._retrieve(
            f"<specSet>{_property_set(type_name, paths)}{objects}"
            f"<reportMissingObjectsInResults>{missing}</reportMissingObjectsInResults></specSet>"
        )

    def read_all(
        self, paths: Mapping[str, Sequence[str]], per_page: int = _OBJECTS_PER_PAGE
    ) -> Iterator[bytes]:
        """Yield the pages of everything that vCenter shows, root folder included.

        ``paths`` is by type; other types are left out. A page has ``per_page`` objects at most.

        The view is made afresh: the watch's own may miss what came later (vcsim's misses hosts).
        Raises likewise.
        """
        view = self._create_view(paths)
        try:
            sets = "".join(_property_set(name, wanted) for name, wanted in paths.items())
            root = f"<objectSet>{_object('obj', self._session.root_folder)}</objectSet>"
            yield from self._retrieve(f"<specSet>{sets}{root}{_through(view)}</specSet>", per_page)
        finally:
            self._free("DestroyView", view)

    def list_all(self, type_name: str) -> list[Key]:
        """Return the keys of all objects of a type that vCenter shows. Raises likewise."""
        view = self._create_view([type_name])
        try:
            return [
                key
                for body in self.read([view], ["view"], "ContainerView")
                for found in parse_objects(body)
                for key in references_in(found.values.get("view"))
            ]
        finally:
            self._free("DestroyView", view)

    def _retrieve(self, specification: str, per_page: int = _OBJECTS_PER_PAGE) -> Iterator[bytes]:
        options = f"<options><maxObjects>{per_page}</maxObjects></options>"
        body = self._call("RetrievePropertiesEx", _COLLECTOR, specification + options)
        yield body
        while token := continuation_token(body):
            body = self._call(
                "ContinueRetrievePropertiesEx", _COLLECTOR, f"<token>{escape(token)}</token>"
            )
            yield body

    def _create_view(self, wanted: Iterable[str]) -> Key:
        types = "".join(f"<type>{name}</type>" for name in view_types(wanted))
        container = _object("container", self._session.root_folder)
        return returned_reference(
            self._call(
                "CreateContainerView",
                "ViewManager:ViewManager",
                f"{container}{types}<recursive>true</recursive>",
            )
        )

    def _free(self, method: str, target: Key) -> None:
        """Free what vCenter holds for us. Never raises because of vCenter."""
        try:
            self._call(method, target, deadline_seconds=_CLOSE_DEADLINE_SECONDS)
        except faults.VCenterError as error:
            log.debug("not freed", extra=fields({OBJECT: target, ERROR: error}))

    def _call(
        self,
        method: str,
        target: Key,
        arguments: str = "",
        deadline_seconds: float = CALL_DEADLINE_SECONDS,
    ) -> bytes:
        request = f'<{method} xmlns="urn:vim25">{_object("_this", target)}{arguments}</{method}>'
        return self._session.soap((_ENVELOPE % request).encode(), deadline_seconds)


class PropertyWatch(PropertyReader):
    """One view of the whole inventory and one filter over it, alive as long as the session.

    Both belong to the login that they were made in. ``close`` frees them.
    """

    def __init__(self, session: VCenterSession) -> None:
        """Raises ``VCenterError``."""
        super().__init__(session)
        self._generation = session.generation
        self._collector: Key = ""
        self._view: Key = ""
        try:
            self._view = self._create_view(spec.type for spec in TYPE_SPECS)
            self._collector = returned_reference(self._call("CreatePropertyCollector", _COLLECTOR))
            self._create_filter()
        except faults.VCenterError:
            self.close()
            raise

    def wait(self, version: str, seconds: int) -> bytes:
        """Return what changed since ``version``, after ``seconds`` at most.

        The empty version asks for the present state. Raises ``VCenterError``;
        ``SessionExpiredError`` when the watch ended with its login.
        """
        options = (
            f"<options><maxWaitSeconds>{seconds}</maxWaitSeconds>"
            f"<maxObjectUpdates>{UPDATES_PER_PAGE}</maxObjectUpdates></options>"
        )
        arguments = f"<version>{escape(version)}</version>{options}"
        try:
            return self._call(
                "WaitForUpdatesEx", self._collector, arguments, seconds + WAIT_MARGIN_SECONDS
            )
        except faults.ManagedObjectNotFoundError as error:
            raise faults.SessionExpiredError(f"the watch has ended: {error}") from error

    def close(self) -> None:
        """End a wait that is under way and free what vCenter holds. Never raises."""
        if self._generation != self._session.generation:
            return
        for method, target in (
            ("DestroyPropertyCollector", self._collector),
            ("DestroyView", self._view),
        ):
            if target:
                self._free(method, target)
        self._collector = self._view = ""

    def _create_filter(self) -> None:
        """Create the filter, without properties that this vCenter does not know."""
        unknown: set[str] = set()
        while True:
            sets = "".join(_watched_set(spec, unknown) for spec in TYPE_SPECS)
            root = f"<objectSet>{_object('obj', self._session.root_folder)}</objectSet>"
            spec = f"<spec>{sets}{root}{_through(self._view)}</spec>"
            try:
                self._call(
                    "CreateFilter", self._collector, spec + "<partialUpdates>false</partialUpdates>"
                )
            except faults.InvalidPropertyError as error:
                if not error.path or error.path in unknown:
                    raise
                log.warning("vCenter does not know a property", extra=fields({NAME: error.path}))
                unknown.add(error.path)
            else:
                return


def _watched_set(spec: TypeSpec, unknown: set[str]) -> str:
    return _property_set(spec.type, [path for path in spec.watched if path not in unknown])


def _property_set(type_name: str, paths: Sequence[str]) -> str:
    names = "".join(f"<pathSet>{path}</pathSet>" for path in paths)
    return f"<propSet><type>{type_name}</type>{names}</propSet>"


def _through(view: Key) -> str:
    """Select what a view shows, and not the view itself."""
    return (
        f"<objectSet>{_object('obj', view)}<skip>true</skip>"
        '<selectSet xsi:type="TraversalSpec"><name>view</name><type>ContainerView</type>'
        "<path>view</path><skip>false</skip></selectSet></objectSet>"
    )


def _object(element: str, key: Key) -> str:
    type_name, _, value = key.partition(":")
    return f'<{element} type="{type_name}">{escape(value)}</{element}>'
