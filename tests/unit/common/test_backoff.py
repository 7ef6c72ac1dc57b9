"""Delays between attempts, without waiting for any."""

from common.backoff import Backoff


def bounds(backoff: Backoff, count: int) -> list[float]:
    return [round(backoff.next_delay(), 3) for _ in range(count)]


def test_delays_grow_by_1_6_up_to_60_seconds() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    assert bounds(backoff, 4) == [1.0, 1.6, 2.56, 4.096]
    assert bounds(backoff, 8)[-1] == 60.0


def test_jitter_is_full() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    bounds(Backoff(uniform=uniform), 3)
    assert drawn == [(0.0, 1.0), (0.0, 1.6), (0.0, 1.6 * 1.6)]


def test_reset_begins_anew() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    bounds(backoff, 5)
    backoff.reset()
    assert bounds(backoff, 1) == [1.0]
