"""The latest values of some properties of one object, for whoever waits for them to change."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from common.log_fields import fields
from edge.errors import EdgeError
from edge.vcenter.client import faults

log = logging.getLogger(__name__)

READ_AGAIN_SECONDS: Final = 30.0
"""What was not reported for so long is read again by whoever waits."""


class Watch:
    """The latest values of some properties of one object. A context manager: leaving ends it."""

    def __init__(
        self,
        target: Any,
        paths: tuple[str, ...],
        read: Callable[[], dict[str, Any]],
        close: Callable[["Watch"], None],
    ) -> None:
        """``read`` asks vCenter for the values of pyVmomi's object ``target``."""
        self.target = target
        self.paths = paths
        self.changed = threading.Event()
        """Set when a value or the error changed, or by whoever wants ``wait`` to return."""
        self.ended = False
        """It was left: nothing need be reported to it."""
        self._read = read
        self._close = close
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        self._reports = 0
        """How often values or an error were reported."""
        self._error: faults.VCenterError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended = True
        self._close(self)

    def values(self) -> dict[str, Any]:
        """What is known, by path; a path without a value is left out.

        Raises the ``VCenterError`` that ended the watch, for example
        ``ManagedObjectNotFoundError`` when the object was deleted.
        """
        self.changed.clear()
        with self._lock:
            if self._error is not None:
                raise self._error
            return dict(self._values)

    def wait(self, timeout: float) -> bool:
        """Wait for a change since ``values`` was called; False after ``timeout`` seconds.

        What was not reported for long is read here, in the waiting thread, so that it does not
        depend on another thread that vCenter leaves without an answer.
        """
        end = time.monotonic() + timeout
        while not self.changed.wait(min(timeout, READ_AGAIN_SECONDS)):
            timeout = end - time.monotonic()
            if timeout <= 0:
                return False
            self._read_again()
        return True

    def report(self, values: dict[str, Any], error: faults.VCenterError | None = None) -> None:
        """Take values that vCenter has reported, or the error that ends the watch."""
        with self._lock:
            self._reports += 1
            self._values.update(values)
            self._error = self._error or error
        self.changed.set()

    def refresh(self) -> None:
        """Read the values; what is reported meanwhile may be newer, and stays.

        Raises ``VCenterError`` or ``EdgeError``.
        """
        with self._lock:
            before = self._reports
        values = self._read()
        with self._lock:
            overtaken = self._reports != before
            self._values = values | self._values if overtaken else self._values | values
        self.changed.set()

    def _read_again(self) -> None:
        try:
            self.refresh()
        except (faults.VCenterUnreachableError, faults.UnexpectedAnswerError) as error:
            log.debug("not read again", extra=fields(paths=self.paths, error=error))
        except (faults.VCenterError, EdgeError) as error:
            self.report({}, as_vcenter_error(error))


def as_vcenter_error(error: Exception) -> faults.VCenterError:
    """Turn what cannot be mended by waiting into the error that ends a watch."""
    if isinstance(error, faults.VCenterError):
        return error
    return faults.SessionExpiredError(f"vCenter's session cannot be renewed: {error}")
