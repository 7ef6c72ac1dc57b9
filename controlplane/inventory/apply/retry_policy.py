"""Repeats what a database that is away could not do, until it is back or nobody wants it."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from controlplane.config.log import keyed
from controlplane.store.errors import RowRejectedError, StoreError

log = logging.getLogger(__name__)

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0

Result = TypeVar("Result")


class AbandonedError(Exception):
    """What was under way is not worth going on with: the stream ended, or all of this stops."""


class Patience:
    """How long to go on trying, for one piece of work."""

    def __init__(
        self, vcenter_uuid: str, stop: threading.Event, unwanted: Callable[[], bool]
    ) -> None:
        """Try until ``stop`` is set or ``unwanted`` returns true."""
        self._vcenter_uuid = vcenter_uuid
        self._stop = stop
        self._unwanted = unwanted

    def run(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns.

        Raises ``AbandonedError``, or ``RowRejectedError`` for what no repetition can mend.
        """
        delay = FIRST_DELAY
        while True:
            try:
                result = work()
            except RowRejectedError:
                raise
            except StoreError as error:
                if delay == FIRST_DELAY:
                    context = keyed(vcenter=self._vcenter_uuid, error=error)
                    log.warning("inventory waits for a database %s", context)
                if self._stop.wait(delay) or self._unwanted():
                    raise AbandonedError from error
                delay = min(delay * 2, LONGEST_DELAY)
            else:
                if delay != FIRST_DELAY:
                    log.warning("inventory goes on %s", keyed(vcenter=self._vcenter_uuid))
                return result
