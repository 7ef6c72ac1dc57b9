"""Reads chosen properties of chosen objects in one round trip each."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyVmomi import vmodl

from edge.vcenter.client import faults
from edge.vcenter.client.session import VCenterSession

_QUERY = vmodl.query.PropertyCollector


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step of a traversal: from objects of ``kind`` along ``path``."""

    kind: type
    path: str
    then: tuple["Step", ...] = ()
    repeated: bool = False
    """Take the same step again from wherever it leads, for example up all parents."""


def read_properties(session: VCenterSession, target: Any, paths: Iterable[str]) -> dict[str, Any]:
    """Return the values by path; a path without a value is left out.

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
    """Return the values by object and path, for ``targets`` and what ``steps`` lead to.

    ``paths`` says which properties of which kind of object are read. Raises ``VCenterError``.
    """
    selection = [_selection(step) for step in steps]
    spec = _QUERY.FilterSpec(
        objectSet=[_QUERY.ObjectSpec(obj=target, selectSet=selection) for target in targets],
        propSet=[
            _QUERY.PropertySpec(type=kind, pathSet=list(wanted)) for kind, wanted in paths.items()
        ],
        reportMissingObjectsInResults=False,
    )
    generation = session.generation
    try:
        return _retrieve(session, spec)
    except faults.SessionExpiredError:
        # An expired session may answer all the same, with every property missing.
        session.renew(generation)
        return _retrieve(session, spec)


def _retrieve(session: VCenterSession, spec: Any) -> dict[Any, dict[str, Any]]:
    collector = session.content.propertyCollector
    found: dict[Any, dict[str, Any]] = {}
    answer = collector.RetrievePropertiesEx([spec], _QUERY.RetrieveOptions())
    while answer is not None:
        for each in answer.objects:
            found[each.obj] = _values(each)
        answer = collector.ContinueRetrievePropertiesEx(answer.token) if answer.token else None
    return found


def _values(content: Any) -> dict[str, Any]:
    for missed in content.missingSet or []:
        error = faults.from_fault(missed.fault)
        if isinstance(error, (faults.PermissionDeniedError, faults.SessionExpiredError)):
            raise error
    return {each.name: each.val for each in content.propSet or []}


def _selection(step: Step) -> Any:
    name = f"{step.kind.__name__}.{step.path}"
    further = [_selection(each) for each in step.then]
    if step.repeated:
        further.append(_QUERY.SelectionSpec(name=name))
    return _QUERY.TraversalSpec(
        name=name, type=step.kind, path=step.path, skip=False, selectSet=further
    )
