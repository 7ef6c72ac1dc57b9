"""The requests to the PropertyCollector."""

import re

import pytest

from edge.vcenter.client import faults
from edge.vcenter.client.property_collector import InventoryWatch, PropertyReader
from tests.support.vsphere_answers import soap


class ScriptedSession:
    """Answers like a vCenter that lacks some properties: vcsim takes any property for known."""

    def __init__(self, lacks: tuple[str, ...] = (), refuse: str = "") -> None:
        self.generation = 1
        self.is_logged_in = True
        self.root_folder = "Folder:group-d1"
        self.requests: list[str] = []
        self._lacks = lacks
        self._refuse = refuse

    def soap(self, envelope: bytes, deadline_seconds: float = 0) -> bytes:
        request = envelope.decode()
        self.requests.append(request)
        method = self.methods()[-1]
        if method == self._refuse:
            raise faults.PermissionDeniedError("no", "Sessions.X", "")
        if method == "CreateFilter":
            for path in self._lacks:
                if f"<pathSet>{path}</pathSet>" in request:
                    raise faults.InvalidPropertyError(f"no {path}", path)
        made = f'<returnval type="Thing">{method.lower()}-1</returnval>'
        return soap(f'<{method}Response xmlns="urn:vim25">{made}</{method}Response>')

    def methods(self) -> list[str]:
        found = (re.search(r"Body><(\w+)", request) for request in self.requests)
        return [match[1] for match in found if match]


def watch(session: ScriptedSession) -> InventoryWatch:
    return InventoryWatch(session)  # type: ignore[arg-type]


def test_property_that_a_vcenter_does_not_know_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = ScriptedSession(lacks=("config.uplink", "guest.net"))
    watch(session)
    final = session.requests[-1]
    assert session.methods().count("CreateFilter") == 3
    assert "config.uplink" not in final
    assert "guest.net" not in final
    assert "<pathSet>runtime.powerState</pathSet>" in final
    assert caplog.text.count("does not know a property") == 2


def test_filter_that_cannot_be_made_leaves_nothing_behind() -> None:
    session = ScriptedSession(refuse="CreateFilter")
    with pytest.raises(faults.PermissionDeniedError):
        watch(session)
    assert session.methods()[-2:] == ["DestroyPropertyCollector", "DestroyView"]


def test_closing_frees_the_filter_and_the_view_once() -> None:
    session = ScriptedSession()
    made = watch(session)
    made.close()
    made.close()
    assert session.methods().count("DestroyView") == 1
    assert session.methods()[-2:] == ["DestroyPropertyCollector", "DestroyView"]


def test_nothing_is_freed_that_ended_with_its_login() -> None:
    session = ScriptedSession()
    made = watch(session)
    session.generation += 1
    made.close()
    assert "DestroyView" not in session.methods()


def test_partial_updates_are_off_and_references_are_escaped() -> None:
    session = ScriptedSession()
    watch(session)
    assert "<partialUpdates>false</partialUpdates>" in session.requests[-1]
    reader = PropertyReader(session)  # type: ignore[arg-type]
    list(reader.read(["VirtualMachine:vm-1<&>"], ["name"], "VirtualMachine"))
    assert '<obj type="VirtualMachine">vm-1&lt;&amp;&gt;</obj>' in session.requests[-1]
