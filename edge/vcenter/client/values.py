"""vSphere's XML values as Python values: pure functions, each for one element."""

import datetime
import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf import timestamp_pb2

from edge.vcenter.client.answers import VIM, Element
from vsphere_gateway.v1 import inventory_pb2

_ESCAPES: Final = {"%25": "%", "%2f": "/", "%2F": "/", "%5c": "\\", "%5C": "\\"}
_UNKNOWN_DATE: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def text(element: Element) -> str:
    """An xsd:string."""
    return element.text or ""


def boolean(element: Element) -> bool:
    """An xsd:boolean. Raises ``ValueError``."""
    if element.text in ("true", "1"):
        return True
    if element.text in ("false", "0"):
        return False
    raise ValueError(f"{element.text!r} is not an xsd:boolean")


def number(element: Element) -> int:
    """An integer of any size. Raises ``ValueError``."""
    return int(element.text or "")


def decoded_name(element: Element) -> str:
    """An inventory name with its escapes undone.

    vCenter stores ``%``, ``/`` and ``\\`` in a name as ``%25``, ``%2f`` and ``%5c`` (vSphere Web
    Services API, ManagedEntity.name).
    """
    return decode_name(text(element))


def decode_name(name: str) -> str:
    """Undo the escapes of an inventory name."""
    if "%" not in name:
        return name
    parts, at = [], 0
    while (found := name.find("%", at)) >= 0:
        parts.append(name[at:found])
        plain = _ESCAPES.get(name[found : found + 3])
        parts.append(plain or "%")
        at = found + (3 if plain else 1)
    return "".join(parts) + name[at:]


def timestamp(element: Element) -> timestamp_pb2.Timestamp | None:
    """An xsd:dateTime to the microsecond; None for vSphere's "unknown", 1970-01-01.

    Raises ``ValueError``.
    """
    moment = datetime.datetime.fromisoformat(text(element))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    if moment == _UNKNOWN_DATE:
        return None
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def reference(element: Element) -> inventory_pb2.ObjectReference:
    """A managed object reference."""
    return inventory_pb2.ObjectReference(type=element.get("type", ""), value=element.text or "")


def references(element: Element) -> list[inventory_pb2.ObjectReference]:
    """An array of managed object references, in a stable order."""
    return sorted_references(reference(child) for child in element)


def sorted_references(
    unsorted: Iterable[inventory_pb2.ObjectReference],
) -> list[inventory_pb2.ObjectReference]:
    """Sort references: their order in vCenter's answers varies though nothing has changed."""
    return sorted(unsorted, key=lambda each: (each.type, each.value))


def child_text(element: Element, name: str) -> str:
    """The text of a direct child; empty if there is none."""
    return element.findtext(VIM + name) or ""


def child_number(element: Element, name: str) -> int:
    """The number in a direct child; 0 if there is none. Raises ``ValueError``."""
    return int(element.findtext(VIM + name) or 0)


class Children:
    """The direct children of an element by name; cheaper than looking for each of many."""

    __slots__ = ("_by_tag",)

    def __init__(self, element: Element) -> None:
        self._by_tag = {child.tag: child for child in element}

    def element(self, name: str) -> Element | None:
        """A child; None if there is none."""
        return self._by_tag.get(VIM + name)

    def text(self, name: str) -> str:
        """The text of a child; empty if there is none."""
        child = self._by_tag.get(VIM + name)
        return "" if child is None else child.text or ""

    def number(self, name: str) -> int:
        """The number in a child; 0 if there is none. Raises ``ValueError``."""
        return int(self.text(name) or 0)

    def flag(self, name: str) -> bool:
        """The xsd:boolean in a child; False if there is none. Raises ``ValueError``."""
        child = self._by_tag.get(VIM + name)
        return child is not None and boolean(child)


def routable_addresses(element: Element) -> list[str]:
    """GuestNicInfo.ipAddress, sorted, without link-local addresses."""
    return sorted({address for address in _addresses(element) if not _is_link_local(address)})


def _addresses(element: Element) -> Iterator[str]:
    for child in element.iterfind(VIM + "ipAddress"):
        yield text(child).partition("%")[0].strip()


def _is_link_local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_link_local
    except ValueError:
        # The guest reports any text; what is not an address is left out too.
        return True
