"""Which other virtual machines use some disk files.

Read with lxml and not by pyVmomi: a datastore may hold thousands of virtual machines, whose
devices and file layouts are some 12 KB of XML each, of which only file names are wanted.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

from lxml import etree
from pyVmomi import vim, vmodl

from edge.vcenter import faults
from edge.vcenter.session import VCenterSession

_PAGE: Final = 500
_QUERY: Final = vmodl.query.PropertyCollector
# layoutEx knows the parents of linked clones and the disks that only a snapshot uses; the devices
# are right even where vCenter has not brought layoutEx up to date yet.
_PATHS: Final = ("name", "layoutEx.file", "config.hardware.device")


def users_of(
    session: VCenterSession, files: Collection[str], datastores: Collection[Any], owner: Any
) -> dict[str, str]:
    """Return, by name, which virtual machines other than ``owner`` use a file, and which one.

    ``datastores`` are those that hold the files: whoever uses a file is listed in
    ``Datastore.vm``, whichever cluster or folder it belongs to. Raises ``VCenterError``.
    """
    users = {}
    for identifier, name, used in _machines(session, datastores):
        shared = sorted(used.intersection(files))
        if shared and identifier != owner._moId:
            users[name or identifier] = shared[0]
    return users


def _machines(
    session: VCenterSession, datastores: Collection[Any]
) -> Iterator[tuple[str, str, set[str]]]:
    """Yield reference, name and used files of every virtual machine on the datastores."""
    collector: Any = session.content.propertyCollector
    step = _QUERY.TraversalSpec(type=vim.Datastore, path="vm", skip=False)
    spec = _QUERY.FilterSpec(
        objectSet=[_QUERY.ObjectSpec(obj=each, skip=True, selectSet=[step]) for each in datastores],
        propSet=[_QUERY.PropertySpec(type=vim.VirtualMachine, pathSet=list(_PATHS))],
        reportMissingObjectsInResults=False,
    )
    options = _QUERY.RetrieveOptions(maxObjects=_PAGE)
    answer = _call(session, collector, "RetrievePropertiesEx", [[spec], options])
    while True:
        yield from (_machine(each) for each in answer.iterfind(".//{*}objects"))
        token = answer.findtext(".//{*}returnval/{*}token")
        if not token:
            return
        answer = _call(session, collector, "ContinueRetrievePropertiesEx", [token])


def _machine(found: Any) -> tuple[str, str, set[str]]:
    name, files = "", set()
    for each in found.iterfind("{*}propSet"):
        value = each.find("{*}val")
        match each.findtext("{*}name"):
            case "name":
                name = value.text or ""
            case "layoutEx.file":
                files |= {file.findtext("{*}name") for file in value}
            case "config.hardware.device":
                files |= {file.text for file in value.iterfind(".//{*}fileName")}
    return found.findtext("{*}obj"), name, files


def _call(session: VCenterSession, target: Any, method: str, arguments: list[Any]) -> Any:
    """Call a method and return the answer as lxml's tree."""
    info = getattr(type(target), method).info
    stub: Any = session.stub
    envelope = stub.SerializeRequest(target, info, arguments)
    try:
        body = session.soap(envelope)
    except faults.SessionExpiredError:
        session.renew(session.generation)
        body = session.soap(envelope)
    return etree.fromstring(body, etree.XMLParser(huge_tree=True, resolve_entities=False))
