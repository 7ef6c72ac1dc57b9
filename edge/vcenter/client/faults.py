"""What can go wrong with vCenter. Third-party exceptions become these once, at the boundary.

``connection`` names what happens to a request on its way, ``translate`` what the answer says;
nothing above ``edge.vcenter`` ever sees an exception of pyVmomi, lxml or urllib3. A failed task
carries its error as data: ``from_fault`` turns that into the same types.
"""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any
from xml.parsers.expat import ExpatError

from lxml import etree
from pyVmomi import VmomiSupport, vim, vmodl


class VCenterError(Exception):
    """Base of everything that vCenter, or the way to it, refuses.

    ``vsphere_fault`` is vSphere's own name of the fault, for example ``InvalidPowerState``; empty
    when the request did not get as far as a fault.
    """

    vsphere_fault: str

    def __init__(self, message: str, vsphere_fault: str = "") -> None:
        self.vsphere_fault = vsphere_fault
        super().__init__(message)


class VCenterUnreachableError(VCenterError):
    """Nothing usable answers: no connection, a broken one, a deadline passed, or HTTP 5xx."""


class TruncatedAnswerError(VCenterUnreachableError):
    """Only a part of the answer arrived; nothing of it may be used."""


@dataclasses.dataclass(frozen=True, slots=True)
class PresentedCertificate:
    """The certificate that a server showed."""

    subject: str
    """RFC 4514, for example ``CN=vcenter.example.com``."""
    issuer: str
    """RFC 4514."""
    thumbprint: str
    """SHA-256 of the DER form: 32 upper-case hex pairs joined by colons, as vCenter shows it."""
    not_after: datetime.datetime
    """UTC."""


class CertificateNotTrustedError(VCenterError):
    """What answers could not prove to be the configured vCenter; nothing was sent to it."""

    def __init__(self, message: str, presented: PresentedCertificate | None) -> None:
        self.presented = presented
        super().__init__(message)


class LoginRefusedError(VCenterError):
    """vCenter refuses the user name or password. Trying again soon can lock the account."""


class SessionExpiredError(VCenterError):
    """The session has ended (idle, terminated, or vCenter restarted); log in again."""


class NotReadYetError(VCenterError):
    """The inventory has not been read since the start, so it is not known yet what is managed."""


class PermissionDeniedError(VCenterError):
    """The user lacks a privilege on an object."""

    def __init__(self, message: str, privilege: str, managed_object: str) -> None:
        self.privilege = privilege
        """For example ``VirtualMachine.Interact.PowerOff``."""
        self.managed_object = managed_object
        """``type:value``; empty when vCenter does not say."""
        super().__init__(message, "NoPermission")


class ManagedObjectNotFoundError(VCenterError):
    """vCenter has no object of this reference: it was deleted."""

    def __init__(self, message: str, managed_object: str) -> None:
        self.managed_object = managed_object
        """``type:value``."""
        super().__init__(message, "ManagedObjectNotFound")


class InvalidPowerStateError(VCenterError):
    """The virtual machine's power state does not allow it."""

    def __init__(self, message: str, requested: str, existing: str) -> None:
        self.requested = requested
        """For example ``poweredOn``; empty when vCenter does not say."""
        self.existing = existing
        """For example ``poweredOff``."""
        super().__init__(message, "InvalidPowerState")


class InvalidPropertyError(VCenterError):
    """vCenter does not know a property that was asked for."""

    def __init__(self, message: str, path: str) -> None:
        self.path = path
        """For example ``config.managedBy``."""
        super().__init__(message, "InvalidProperty")


class InvalidStateError(VCenterError):
    """The object's state does not allow it."""


class ConcurrentAccessError(VCenterError):
    """Another operation holds the object."""


class NoSpaceError(VCenterError):
    """No datastore has room."""


class NoResourcesError(VCenterError):
    """No host can take the virtual machine."""


class DuplicateNameError(VCenterError):
    """The name is taken."""


class ToolsUnavailableError(VCenterError):
    """VMware Tools are needed and do not run in the guest."""


class FileInUseError(VCenterError):
    """A file is locked or in use by another virtual machine."""


class TaskCancelledError(VCenterError):
    """The task or the request was cancelled."""


class UnexpectedAnswerError(VCenterError):
    """The answer is not SOAP as vCenter sends it: a proxy's page, or a broken document."""


class CorruptAnswerError(UnexpectedAnswerError):
    """The answer cannot be decompressed."""


class AnswerTooLongError(UnexpectedAnswerError):
    """The answer is longer than any that was asked for, on the line or once decompressed."""


class VSphereFaultError(VCenterError):
    """A fault without a type of its own here; ``vsphere_fault`` has its name."""


def fault_name(fault: vmodl.MethodFault) -> str:
    """vSphere's name of a fault, for example ``InvalidPowerState``."""
    return type(fault).__name__.rsplit(".", 1)[-1]


def from_fault(fault: vmodl.MethodFault) -> VCenterError:
    """Turn a vSphere fault (raised by a call, or found in ``TaskInfo.error``) into our type."""
    for types, make in _FAULTS:
        if isinstance(fault, types):
            return make(fault)
    return VSphereFaultError(_text(fault), fault_name(fault))


def unknown_fault(name: str, text: str) -> VCenterError:
    """Make the error of a fault that pyVmomi cannot read: its type or one of its values."""
    try:
        fault = VmomiSupport.GetWsdlType("urn:vim25", name)(msg=text)
    except KeyError:
        return VSphereFaultError(f"{name}: {text}".strip(": "), name)
    return from_fault(fault)


def translate(error: Exception) -> VCenterError:
    """Turn a third-party exception into our type.

    Callers pass what they caught as one of ``THIRD_PARTY``.
    """
    if isinstance(error, VCenterError):
        return error
    if isinstance(error, vmodl.MethodFault):
        return from_fault(error)
    return UnexpectedAnswerError(f"vCenter's answer cannot be read: {error!r}")


THIRD_PARTY = (vmodl.MethodFault, ExpatError, etree.XMLSyntaxError)
"""What reading an answer of vCenter's may raise."""


def reference_text(reference: object) -> str:
    """``type:value`` of pyVmomi's managed object; empty for None."""
    if reference is None:
        return ""
    kind = type(reference).__name__.rsplit(".", 1)[-1]
    return f"{kind}:{getattr(reference, '_moId', reference)}"


def _text(fault: vmodl.MethodFault) -> str:
    name = fault_name(fault)
    causes = getattr(fault, "faultMessage", None) or []
    parts = [getattr(fault, "msg", None), *(cause.message for cause in causes)]
    # A localised message often repeats in its causes; an older vCenter sends none at all.
    text = " ".join(dict.fromkeys(part.strip() for part in parts if part and part.strip()))
    return f"{name}: {text}" if text and text != name else name


def _session_expired(fault: vim.fault.NotAuthenticated) -> VCenterError:
    text = f"vCenter has ended the session, or never knew it ({_text(fault)})"
    return SessionExpiredError(text, fault_name(fault))


def _permission_denied(fault: vim.fault.NoPermission) -> VCenterError:
    where, privilege = reference_text(fault.object), fault.privilegeId or ""
    return PermissionDeniedError(
        f"the user lacks the privilege {privilege or '(not named)'} on {where or 'the object'}",
        privilege,
        where,
    )


def _not_found(fault: vmodl.fault.ManagedObjectNotFound) -> VCenterError:
    where = reference_text(fault.obj)
    return ManagedObjectNotFoundError(f"vCenter has no object {where}", where)


def _invalid_property(fault: vmodl.query.InvalidProperty) -> VCenterError:
    path = str(fault.name)
    return InvalidPropertyError(f"vCenter does not know the property {path}", path)


def _invalid_power_state(fault: vim.fault.InvalidPowerState) -> VCenterError:
    requested, existing = str(fault.requestedState or ""), str(fault.existingState or "")
    return InvalidPowerStateError(
        f"the virtual machine is {existing or 'in a power state that does not allow this'}",
        requested,
        existing,
    )


def _plain(kind: type[VCenterError]) -> Callable[[vmodl.MethodFault], VCenterError]:
    return lambda fault: kind(_text(fault), fault_name(fault))


# The first match wins: what is more special stands first.
_FAULTS: tuple[tuple[tuple[type, ...], Callable[[Any], VCenterError]], ...] = (
    ((vim.fault.NotAuthenticated,), _session_expired),
    ((vim.fault.InvalidLogin,), _plain(LoginRefusedError)),
    ((vim.fault.NoPermission,), _permission_denied),
    ((vmodl.fault.ManagedObjectNotFound,), _not_found),
    ((vmodl.query.InvalidProperty,), _invalid_property),
    ((vim.fault.InvalidPowerState,), _invalid_power_state),
    ((vim.fault.ToolsUnavailable,), _plain(ToolsUnavailableError)),
    ((vim.fault.TaskInProgress, vim.fault.ConcurrentAccess), _plain(ConcurrentAccessError)),
    (
        (vim.fault.NoDiskSpace, vim.fault.InsufficientStorageSpace),
        _plain(NoSpaceError),
    ),
    (
        (vim.fault.InsufficientResourcesFault, vim.fault.NoCompatibleHost),
        _plain(NoResourcesError),
    ),
    ((vim.fault.DuplicateName, vim.fault.AlreadyExists), _plain(DuplicateNameError)),
    ((vim.fault.FileLocked, vim.fault.ResourceInUse), _plain(FileInUseError)),
    ((vmodl.fault.RequestCanceled,), _plain(TaskCancelledError)),
    ((vim.fault.InvalidState,), _plain(InvalidStateError)),
)
