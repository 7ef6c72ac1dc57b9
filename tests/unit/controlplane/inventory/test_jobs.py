"""Rows that Nova withholds are looked at again after growing delays."""

from controlplane.inventory.jobs import RetryQueue


def test_delays_of_a_row_grow_and_start_small_again() -> None:
    now = [0.0]
    queue = RetryQueue(lambda: now[0])

    queue.retry_later("k")
    assert queue.next_due() == 1.0
    now[0] = 1.0
    assert queue.take(10) == ["k"]
    queue.retry_later("k")
    assert queue.next_due() == 3.0
    for _ in range(10):
        queue.retry_later("k")
    assert queue.next_due() == now[0] + 60.0

    queue.schedule(["k"])
    assert queue.take(10) == ["k"]
    queue.discard("k")
    assert queue.next_due() is None
