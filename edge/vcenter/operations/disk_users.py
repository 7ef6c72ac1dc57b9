"""Which other virtual machines use some disk files.

Read with lxml and not by pyVmomi: a datastore may hold thousands of virtual machines, whose
devices and file layouts are some 12 KB of XML each, of which only file names are wanted.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

from pyVmomi import vim

from common.references import Key
from edge.vcenter.client.answers import VIM, Element, ObjectProperties, parse_objects
from edge.vcenter.client.properties import read_related
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.session import VCenterSession

# layoutEx knows the parents of linked clones and the disks that only a snapshot uses; the devices
# are right even where vCenter has not brought layoutEx up to date yet.
_NAME: Final = "name"
_LAYOUT: Final = "layoutEx"
_DEVICES: Final = "config.hardware.device"
_MACHINES_AT_ONCE: Final = 100
"""With many snapshots the file layout of one alone may have 100 KB."""


def users_of(
    session: VCenterSession, files: Collection[str], datastores: Collection[Any], owner: Any
) -> dict[str, str]:
    """Find the virtual machines other than ``owner`` that use a file: by name, and which file.

    ``datastores`` are those that hold the files: whoever uses a file is listed in
    ``Datastore.vm``, whichever cluster or folder it belongs to. Raises ``VCenterError``.
    """
    if not datastores:
        return {}
    listed = read_related(session, list(datastores), {vim.Datastore: ("vm",)}).values()
    others = {each._moId for values in listed for each in values.get("vm") or []} - {owner._moId}
    users = {}
    for name, used in _machines(session, [f"VirtualMachine:{each}" for each in sorted(others)]):
        if shared := used.intersection(files):
            # The descriptor's name is shorter than those of its extents, and the one people know.
            users[name] = min(shared, key=len)
    return users


def _machines(session: VCenterSession, keys: list[Key]) -> Iterator[tuple[str, set[str]]]:
    """Name and used files of each; a virtual machine that was deleted meanwhile is left out."""
    reader, paths = PropertyReader(session), (_NAME, _LAYOUT, _DEVICES)
    for at in range(0, len(keys), _MACHINES_AT_ONCE):
        for body in reader.read(keys[at : at + _MACHINES_AT_ONCE], paths, "VirtualMachine"):
            for found in parse_objects(body):
                yield _name_and_files(found)


def _name_and_files(found: ObjectProperties) -> tuple[str, set[str]]:
    name, devices = found.values.get(_NAME), found.values.get(_DEVICES)
    files = set() if devices is None else set(_texts(devices, f".//{VIM}fileName"))
    files |= _files_of_layout(found.values.get(_LAYOUT))
    return (name.text if name is not None else None) or found.key, files


def _files_of_layout(layout: Element | None) -> set[str]:
    """The files of present disks and of snapshots; other files may be out of date."""
    if layout is None:
        return set()
    chains = (
        f"{VIM}disk/{VIM}chain/{VIM}fileKey",
        f"{VIM}snapshot/{VIM}disk/{VIM}chain/{VIM}fileKey",
    )
    keys = {key for chain in chains for key in _texts(layout, chain)}
    files = layout.iterfind(f"{VIM}file")
    return {each.findtext(f"{VIM}name", "") for each in files if each.findtext(f"{VIM}key") in keys}


def _texts(element: Element, path: str) -> Iterator[str]:
    return (each.text for each in element.iterfind(path) if each.text)
