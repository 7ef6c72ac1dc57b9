"""Objects are fetched a few requests ahead of their use."""

import functools
import threading
from typing import Any

import pytest

from edge.vcenter.client import faults
from edge.vcenter.collector.object_reader import fetch_ahead


def test_pages_come_in_order_and_few_are_fetched_ahead() -> None:
    fetched: list[int] = []
    reached = threading.Semaphore(0)

    def fetch(number: int) -> list[bytes]:
        fetched.append(number)
        reached.release()
        return [b"%d" % number, b"%d+" % number]

    ahead = fetch_ahead([functools.partial(fetch, number) for number in range(9)])
    assert next(ahead) == b"0"
    # The one that is used, and three that wait.
    for _ in range(4):
        assert reached.acquire(timeout=5)
    assert not reached.acquire(timeout=0.2)
    assert sorted(fetched) == [0, 1, 2, 3]
    rest = [page for number in range(1, 9) for page in (b"%d" % number, b"%d+" % number)]
    assert list(ahead) == [b"0+", *rest]


def test_two_requests_are_under_way_at_a_time() -> None:
    both = threading.Barrier(2, timeout=5)

    def fetch() -> list[bytes]:
        both.wait()
        return [b"page"]

    assert list(fetch_ahead([fetch] * 4)) == [b"page"] * 4


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_fetching_raises_is_raised_where_the_pages_are_used(count: int) -> None:
    def fail() -> list[bytes]:
        raise faults.SessionExpiredError("gone")

    ahead = fetch_ahead([lambda: [b"page"]] * (count - 1) + [fail])
    for _ in range(count - 1):
        assert next(ahead) == b"page"
    with pytest.raises(faults.SessionExpiredError):
        next(ahead)


def test_nothing_to_fetch_is_no_page() -> None:
    assert list(fetch_ahead([])) == []


@pytest.mark.parametrize("taken", [1, 100])
def test_threads_end_when_nobody_takes_pages_any_more(taken: int) -> None:
    ahead: Any = fetch_ahead([lambda: [b"page"]] * 100)
    for _ in range(taken):
        next(ahead)
    ahead.close()
    readers = [each for each in threading.enumerate() if each.name.startswith("vcenter-read")]
    for each in readers:
        each.join(5)
        assert not each.is_alive()
