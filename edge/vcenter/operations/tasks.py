"""Runs vCenter tasks to their end: waited for on the PropertyCollector, cancellable, in time."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from pyVmomi import vim

from common.log_fields import fields
from common.references import make_key
from edge.errors import EdgeError
from edge.vcenter.client import faults
from edge.vcenter.client.answers import VIM, parse_objects, type_of
from edge.vcenter.client.properties import read_properties
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.client.task_watcher import PropertyWatcher
from edge.vcenter.client.watch import Watch
from edge.vcenter.operations.control import OperationControl, Reference
from edge.vcenter.operations.errors import (
    DeadlinePassedError,
    OperationCancelledError,
    OutcomeUnknownError,
)

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 2.0
"""Pause before a task is asked after again when vCenter did not answer."""
CANCEL_SECONDS: Final = 60.0
"""How long a cancelled task may take to end before it is reported as still running."""

# ``info`` as a whole, ``info.error`` and ``info.result`` may hold what pyVmomi cannot read
# (facts of vcsim; faults of newer vCenters): they are read alone, and only when needed.
_PATHS: Final = ("info.state", "info.progress")
_QUESTION: Final = "runtime.question.text"
_ERROR_PATH: Final = "info.error"
_ERROR: Final = str(vim.TaskInfo.State.error)
_ENDED: Final = (_ERROR, str(vim.TaskInfo.State.success))
_LOST: Final = (
    faults.SessionExpiredError,
    faults.LoginRefusedError,
    faults.ManagedObjectNotFoundError,
    EdgeError,
)


class TaskRunner:
    """Starts tasks and waits for them."""

    def __init__(self, session: VCenterSession, watcher: PropertyWatcher) -> None:
        self._session = session
        self._watcher = watcher

    def run(self, start: Callable[[], Any], control: OperationControl) -> Any:
        """Begin the task that ``start`` returns and wait for its end.

        Returns the pyVmomi task, so that ``result`` can be asked for. Raises ``VCenterError`` for
        what vCenter refuses or the task fails with, ``DeadlinePassedError`` and
        ``OperationCancelledError`` once vCenter was asked to stop the task, and
        ``OutcomeUnknownError`` when vCenter was lost meanwhile. A task that succeeds although it
        was cancelled has succeeded.
        """
        control.check()
        task = start()
        control.task_began(Reference(type="Task", value=task._moId))
        try:
            state = self._wait(task, control)
            if state == _ERROR:
                raise self._error(task)
        finally:
            control.task_ended()
        return task

    def result(self, task: Any) -> Any:
        """Read ``info.result`` of a task that succeeded. Raises ``VCenterError``."""
        return read_properties(self._session, task, ["info.result"]).get("info.result")

    def _wait(self, task: Any, control: OperationControl) -> str:
        """Wait for the state that the task ends in, also while vCenter does not answer."""
        woken = threading.Event()
        while True:
            try:
                return self._wait_on_watch(task, control)
            except faults.VCenterUnreachableError as error:
                log.info(
                    "vCenter does not answer while a task runs",
                    extra=fields(task=task._moId, error=error),
                )
                with control.wakes(woken):
                    woken.wait(min(RETRY_SECONDS, control.remaining()))
                if control.cancelled or not control.remaining():
                    raise _unknown(task, error) from error
            except _LOST as error:
                raise _unknown(task, error) from error

    def _wait_on_watch(self, task: Any, control: OperationControl) -> str:
        # A short task may have ended by now; a longer one leaves time to set up the watch.
        values = read_properties(self._session, task, _PATHS)
        if (state := values.get("info.state")) in _ENDED:
            return str(state)
        with self._watcher.watch(task, _PATHS) as watch, control.wakes(watch.changed):
            reported = 0
            while (values := watch.values()).get("info.state") not in _ENDED:
                if control.cancelled or not control.remaining():
                    return self._give_up(task, watch, control)
                percent = values.get("info.progress") or 0
                if percent > reported:
                    reported = percent
                    control.task_progress(percent)
                watch.wait(control.remaining())
            return str(values["info.state"])

    def _give_up(self, task: Any, watch: Watch, control: OperationControl) -> str:
        """Cancel the task; return its state if it ends otherwise than by that."""
        question = "" if control.cancelled else self._question(task)
        why = "cancelled" if control.cancelled else f"past its deadline{question}"
        kind = OperationCancelledError if control.cancelled else DeadlinePassedError
        end = control.now() + self._cancel(task)
        # What vCenter does not let be cancelled may have ended just now.
        watch.refresh()
        while (state := watch.values().get("info.state")) not in _ENDED:
            if not watch.wait(max(0.0, end - control.now())):
                raise kind(f"the operation was {why}, but vCenter still runs {task._moId}")
        if state == _ERROR and isinstance(self._error(task), faults.TaskCancelledError):
            raise kind(f"the operation was {why}; vCenter has stopped {task._moId}")
        return str(state)

    def _question(self, task: Any) -> str:
        """Read what vCenter asks a person, which holds up the task; empty if it asks nothing."""
        try:
            entity = read_properties(self._session, task, ["info.entity"]).get("info.entity")
            if not isinstance(entity, vim.VirtualMachine):
                return ""
            asked = read_properties(self._session, entity, [_QUESTION]).get(_QUESTION)
        except faults.VCenterError as error:
            log.info(
                "question of the task cannot be read", extra=fields(task=task._moId, error=error)
            )
            return ""
        return f" (vCenter waits for an answer to: {asked})" if asked else ""

    def _cancel(self, task: Any) -> float:
        """Ask vCenter to stop a task; return the seconds that it may take."""
        try:
            task.CancelTask()
        except (faults.VSphereFaultError, faults.InvalidStateError) as error:
            refused = fields(task=task._moId, error=error)
            log.info("task cannot be cancelled", extra=refused)
            return 0.0
        return CANCEL_SECONDS

    def _error(self, task: Any) -> faults.VCenterError:
        try:
            values = read_properties(self._session, task, [_ERROR_PATH])
        except faults.UnexpectedAnswerError:
            return self._unknown_error(task)
        fault = values.get(_ERROR_PATH)
        return _unexplained(task) if fault is None else faults.from_fault(fault)

    def _unknown_error(self, task: Any) -> faults.VCenterError:
        """Read a fault that pyVmomi has no type for: its name and text."""
        keys = [make_key("Task", task._moId)]
        for body in PropertyReader(self._session).read(keys, [_ERROR_PATH], "Task"):
            for found in parse_objects(body):
                error = found.values.get(_ERROR_PATH)
                fault = None if error is None else error.find(f"{VIM}fault")
                if error is not None and fault is not None:
                    text = error.findtext(f"{VIM}localizedMessage") or ""
                    return faults.unknown_fault(type_of(fault), text)
        return _unexplained(task)


def _unknown(task: Any, error: Exception) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"vCenter was lost while {task._moId} ran ({error}); its outcome is unknown"
    )


def _unexplained(task: Any) -> faults.VCenterError:
    return faults.unknown_fault("", f"{task._moId} failed and vCenter gives no reason")
