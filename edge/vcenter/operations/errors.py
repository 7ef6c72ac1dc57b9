"""Why an operation is refused or given up, beside vCenter's own faults (``faults.py``).

``edge/operations/status.py`` turns both into the status that travels to Nova.
"""


class OperationError(Exception):
    """Base: an operation did not do what was asked, and not for a single fault of vCenter."""


class VirtualMachineNotFoundError(OperationError):
    """vCenter has no virtual machine with the instance UUID."""


class TemplateNotFoundError(OperationError):
    """vCenter has no such template, or it was converted to a virtual machine."""


class AmbiguousIdentityError(OperationError):
    """Several virtual machines have the instance UUID; which one is meant cannot be decided."""


class RefusedBySiteError(OperationError):
    """The site's configuration keeps OpenStack away from this object."""


class WrongPowerStateError(OperationError):
    """The virtual machine's power state does not allow the operation."""


class DiskInUseError(OperationError):
    """A disk cannot be deleted, or kept, without harm to data that something else needs."""


class DiskTooSmallError(OperationError):
    """The disk asked for is smaller than the template's; a disk never shrinks."""


class NoDatastoreError(OperationError):
    """No datastore of the cluster has room for the virtual machine."""


class NoHostError(OperationError):
    """No host of the cluster can take the virtual machine."""


class DeadlinePassedError(OperationError):
    """The caller's deadline passed."""


class OperationCancelledError(OperationError):
    """The caller cancelled the operation."""


class OutcomeUnknownError(OperationError):
    """vCenter did not answer any more after a task began: its outcome is unknown."""


class UnknownOperationError(OperationError):
    """The edge does not know this operation."""


class LeaseLostError(OperationError):
    """The edge does not hold the lease under which the operation was sent."""


class NotTakenOnError(OperationError):
    """The edge takes on no more operations at the moment; this one never began."""
