"""Nova's deletes are asked for apart from the inventory, a few at a time."""

import threading
from collections.abc import Iterator

import pytest

from common.background import ThreadMonitor
from controlplane.openstack.nova import delete_queue
from controlplane.openstack.nova.delete_queue import THREADS, NovaDeleteQueue


class SlowNova:
    """Nova's API, which answers when somebody lets it."""

    def __init__(self) -> None:
        self.answers = threading.Semaphore(0)
        self.asked: list[str] = []
        self.answered = threading.Semaphore(0)
        self.error: Exception | None = None

    def delete(self, uuid: str) -> str:
        self.asked.append(uuid)
        assert self.answers.acquire(timeout=30)
        self.answered.release()
        error, self.error = self.error, None
        if error is not None:
            raise error
        return "conflict" if uuid == "refused" else ""

    def answer(self, number: int = 1) -> None:
        for _ in range(number):
            self.answers.release()
        for _ in range(number):
            assert self.answered.acquire(timeout=30)


@pytest.fixture
def nova() -> SlowNova:
    return SlowNova()


@pytest.fixture
def monitor() -> ThreadMonitor:
    return ThreadMonitor()


@pytest.fixture
def queue(nova: SlowNova, monitor: ThreadMonitor) -> Iterator[NovaDeleteQueue]:
    queue = NovaDeleteQueue(nova.delete, monitor)
    queue.start()
    yield queue
    queue.stop()
    nova.answers.release(2000)


def test_nobody_waits_for_novas_answer_and_a_few_requests_are_made_at_once(
    queue: NovaDeleteQueue, nova: SlowNova
) -> None:
    servers = [f"server-{number}" for number in range(20)]

    assert [queue.delete(one) for one in servers] == [""] * 20

    nova.answer(20 - THREADS)
    nova.answer(THREADS)
    assert sorted(nova.asked) == sorted(servers)


def test_delete_under_way_is_not_asked_for_twice_and_one_that_was_answered_is(
    queue: NovaDeleteQueue, nova: SlowNova, monitor: ThreadMonitor
) -> None:
    for _ in range(3):
        queue.delete("refused")
    nova.answer()
    assert nova.asked == ["refused"]

    pause = threading.Event()
    while len(nova.asked) < 2:
        queue.delete("refused")
        pause.wait(0.01)
    nova.answer()
    assert monitor.failures() == {}


def test_unexpected_error_ends_no_thread(
    queue: NovaDeleteQueue, nova: SlowNova, monitor: ThreadMonitor
) -> None:
    nova.error = RuntimeError("injected")
    for number in range(THREADS + 3):
        queue.delete(f"server-{number}")

    nova.answer(THREADS + 3)

    assert sum(monitor.failures().values()) == 1


def test_what_finds_no_room_is_said_to_be_asked_for_later(
    queue: NovaDeleteQueue, nova: SlowNova, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete_queue, "LONGEST_QUEUE", 2)
    assert queue.delete("a") == queue.delete("b") == ""

    assert "2 deletes wait" in queue.delete("c")
    assert queue.delete("a") == ""
