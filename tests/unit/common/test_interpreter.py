"""How both tiers have their Python run."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from common.interpreter import leave_out_present
from common.process_memory import release


class Node:
    """May refer to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_python_has_it() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.parametrize("settle", [leave_out_present, release])
def test_what_is_there_is_not_walked_through_again(settle: Callable[[], None]) -> None:
    kept = Node()

    settle()

    assert gc.get_freeze_count() > 0
    assert not any(each is kept for each in gc.get_objects())


def test_what_the_edge_keeps_no_more_goes_with_the_next_release() -> None:
    node = Node()
    alive = weakref.ref(node)
    release()
    del node

    gc.collect()
    assert alive() is not None
    release()
    assert alive() is None
