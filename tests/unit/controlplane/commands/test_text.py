"""Durations and sizes as people read them."""

import doctest

from controlplane.commands import text


def test_durations_and_sizes_read_well() -> None:
    assert doctest.testmod(text).failed == 0
