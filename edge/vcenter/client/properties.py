"""Properties as vSphere's own objects, made by pyVmomi of what ``property_collector`` reads.

For the few objects of one operation. Many are read as elements (``answers``).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyVmomi import vmodl

from common.references import Key, make_key
from edge.vcenter.client import faults
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.session import VCenterSession


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step of a traversal: from objects of ``kind`` along ``path``."""

    kind: type
    path: str
    then: tuple["Step", ...] = ()
    repeated: bool = False
    """Take the same step again from wherever it leads, for example up all parents."""


def read_properties(session: VCenterSession, target: Any, paths: Iterable[str]) -> dict[str, Any]:
    """Read the values by path; a path without a value is left out.

    Raises ``VCenterError``: ``ManagedObjectNotFoundError`` when the object is gone,
    ``PermissionDeniedError`` when vCenter hides it or one of the properties.
    """
    found = read_related(session, [target], {type(target): tuple(paths)})
    if target not in found:
        where = faults.reference_text(target)
        raise faults.PermissionDeniedError(
            f"vCenter does not show {where} to the user", "System.View", where
        )
    return found[target]


def read_related(
    session: VCenterSession,
    targets: Sequence[Any],
    paths: Mapping[type, Sequence[str]],
    steps: Sequence[Step] = (),
) -> dict[Any, dict[str, Any]]:
    """Read the values by object and path, for ``targets`` and what ``steps`` lead to.

    ``paths`` says which properties of which kind of object are read. Raises ``VCenterError``.
    """
    generation = session.generation
    try:
        return _read(session, targets, paths, steps)
    except faults.SessionExpiredError:
        session.renew(generation)
        return _read(session, targets, paths, steps)


def wsdl_name(kind: Any) -> str:
    """vSphere's name of a type that pyVmomi has as a class."""
    return str(kind._wsdlName)


def key_of_object(target: Any) -> Key:
    """Build the key of pyVmomi's managed object."""
    return make_key(wsdl_name(type(target)), target._moId)


def _read(
    session: VCenterSession,
    targets: Sequence[Any],
    paths: Mapping[type, Sequence[str]],
    steps: Sequence[Step],
) -> dict[Any, dict[str, Any]]:
    pages = PropertyReader(session).read_related(
        [key_of_object(target) for target in targets],
        {wsdl_name(kind): wanted for kind, wanted in paths.items()},
        "".join(_selection(step) for step in steps),
    )
    found: dict[Any, dict[str, Any]] = {}
    for body in pages:
        answer = session.vsphere_object(body, vmodl.query.PropertyCollector.RetrieveResult)
        for each in answer.objects if answer is not None else ():
            found[each.obj] = _values(each)
    return found


def _values(content: Any) -> dict[str, Any]:
    for missed in content.missingSet or []:
        error = faults.from_fault(missed.fault)
        # An expired session may be answered all the same, with every property missing.
        if isinstance(error, (faults.PermissionDeniedError, faults.SessionExpiredError)):
            raise error
    return {each.name: each.val for each in content.propSet or []}


def _selection(step: Step) -> str:
    kind = wsdl_name(step.kind)
    name = f"{kind}.{step.path}"
    further = "".join(_selection(each) for each in step.then)
    if step.repeated:
        further += f'<selectSet xsi:type="SelectionSpec"><name>{name}</name></selectSet>'
    return (
        f'<selectSet xsi:type="TraversalSpec"><name>{name}</name><type>{kind}</type>'
        f"<path>{step.path}</path><skip>false</skip>{further}</selectSet>"
    )
