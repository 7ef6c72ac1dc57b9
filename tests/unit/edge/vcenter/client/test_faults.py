"""Every fault of vCenter becomes a typed error that says what a person needs."""

import pytest
from pyVmomi import vim, vmodl

from edge.vcenter.client import faults
from edge.vcenter.client.session import _soap_fault
from tests.support.vsphere_answers import soap


def fault_answer(name: str, inside: str = "", text: str = "what vCenter says") -> bytes:
    return soap(
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
        f"<faultstring>{text}</faultstring><detail>"
        f'<{name}Fault xmlns="urn:vim25" xsi:type="{name}">{inside}</{name}Fault>'
        "</detail></soapenv:Fault>"
    )


def test_fault_that_pyvmomi_has_no_type_for_keeps_name_and_text() -> None:
    error = _soap_fault(fault_answer("QuantumEntanglementLost"))
    assert type(error) is faults.VSphereFaultError
    assert error.vsphere_fault == "QuantumEntanglementLost"
    assert str(error) == "QuantumEntanglementLost: what vCenter says"


def test_fault_with_a_value_that_pyvmomi_does_not_know_keeps_its_type() -> None:
    answer = fault_answer("InvalidPowerState", "<existingState>frozen</existingState>")
    error = _soap_fault(answer)
    assert isinstance(error, faults.InvalidPowerStateError)


def test_missing_privilege_is_named_with_its_object() -> None:
    answer = fault_answer(
        "NoPermission",
        '<object type="VirtualMachine">vm-7</object>'
        "<privilegeId>VirtualMachine.Interact.PowerOff</privilegeId>",
    )
    error = _soap_fault(answer)
    assert isinstance(error, faults.PermissionDeniedError)
    assert error.privilege == "VirtualMachine.Interact.PowerOff"
    assert error.managed_object == "VirtualMachine:vm-7"
    assert error.privilege in str(error)
    assert error.managed_object in str(error)


def test_expired_session_is_no_missing_privilege() -> None:
    """NotAuthenticated is a kind of NoPermission in vSphere."""
    error = _soap_fault(fault_answer("NotAuthenticated"))
    assert isinstance(error, faults.SessionExpiredError)
    assert "ended the session" in str(error), "the fault's name alone tells an operator nothing"


def test_expired_password_is_a_refused_login() -> None:
    assert isinstance(_soap_fault(fault_answer("PasswordExpired")), faults.LoginRefusedError)


def test_task_error_becomes_the_same_types() -> None:
    error = faults.from_fault(vim.fault.NoDiskSpace(datastore="ds", msg="full"))
    assert isinstance(error, faults.NoSpaceError)
    assert str(error) == "NoDiskSpace: full"


def test_messages_of_causes_are_told_once() -> None:
    fault = vim.fault.GenericVmConfigFault(
        msg="it failed",
        faultMessage=[
            vmodl.LocalizableMessage(key="a", message="it failed"),
            vmodl.LocalizableMessage(key="b", message="the disk is locked"),
        ],
    )
    assert str(faults.from_fault(fault)) == "GenericVmConfigFault: it failed the disk is locked"


@pytest.mark.parametrize("body", [b"", b"<html/>", soap("<soapenv:Fault/>"), b"\xff\xfe"])
def test_answer_that_is_no_fault_is_unexpected(body: bytes) -> None:
    assert isinstance(_soap_fault(body), faults.VCenterError)
