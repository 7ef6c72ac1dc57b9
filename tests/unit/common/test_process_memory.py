"""How both tiers have their Python run."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from common.process_memory import freeze_gc, trim_memory


class Node:
    """May refer to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_python_has_it() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.parametrize("settle", [freeze_gc, trim_memory])
def test_what_is_there_is_not_walked_through_again(settle: Callable[[], None]) -> None:
    kept = Node()

    settle()

    assert gc.get_freeze_count() > 0
    assert not any(each is kept for each in gc.get_objects())


def test_what_the_edge_keeps_no_more_goes_with_the_next_release() -> None:
    node = Node()
    alive = weakref.ref(node)
    trim_memory()
    del node

    gc.collect()
    assert alive() is not None
    trim_memory()
    assert alive() is None
