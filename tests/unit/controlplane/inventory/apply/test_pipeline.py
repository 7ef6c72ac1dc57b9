"""A database that is away is waited for; an error that will come again is not repeated."""

import threading
from collections.abc import Callable

import pytest

from common.backoff import Backoff
from controlplane.inventory.apply.pipeline import AbandonedError, RetryPolicy
from controlplane.store.errors import (
    DatabaseUnavailableError,
    RowRejectedError,
    StatementRejectedError,
    StoreError,
)


class Waits(threading.Event):
    """Waits for nobody; notes for how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.delays.append(timeout or 0.0)
        return self.is_set()


def retrying(waits: Waits, unwanted: Callable[[], bool] = lambda: False) -> RetryPolicy:
    return RetryPolicy("vc", waits, unwanted, lambda: Backoff(0.2, 2.0, 5.0, lambda _, most: most))


def failing(*errors: Exception) -> Callable[[], str]:
    answers = iter(errors)

    def work() -> str:
        for error in answers:
            raise error
        return "done"

    return work


def test_database_that_is_away_is_waited_for_longer_and_longer() -> None:
    waits = Waits()

    done = retrying(waits).run(failing(*[DatabaseUnavailableError("away")] * 7))

    assert done == "done"
    assert waits.delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


@pytest.mark.parametrize(
    "error", [StatementRejectedError("Unknown column"), RowRejectedError("too long")]
)
def test_error_that_will_come_again_is_not_repeated(error: StoreError) -> None:
    waits = Waits()

    with pytest.raises(type(error), match=str(error)):
        retrying(waits).run(failing(error))

    assert waits.delays == []


def test_work_that_nobody_wants_is_abandoned() -> None:
    waits = Waits()
    with pytest.raises(AbandonedError):
        retrying(waits, lambda: True).run(failing(DatabaseUnavailableError("away")))
    waits.set()
    with pytest.raises(AbandonedError):
        retrying(waits).run(failing(DatabaseUnavailableError("away")))
