"""Secrets leave no process, whatever its other threads learn meanwhile."""

import threading

import pytest

from edge import scrub as module
from edge.scrub import remember_secret, scrub


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known_secrets", ())


def test_known_secrets_and_what_looks_like_one_are_blotted_out() -> None:
    remember_secret("hunter2hunter2")

    assert scrub("sent hunter2hunter2 to it") == "sent *** to it"
    assert scrub("password=abc https://me:pw@host/") == "password=*** https://me:***@host/"


def test_secret_learned_while_another_thread_scrubs_breaks_no_line() -> None:
    for number in range(2000):
        remember_secret(f"secret-of-the-start-{number}")
    ended = threading.Event()

    def learn() -> None:
        number = 0
        while not ended.is_set():
            remember_secret(f"secret-learned-{number}")
            number += 1

    learner = threading.Thread(target=learn)
    learner.start()
    try:
        lines = [scrub("a line of the log") for _ in range(200)]
    finally:
        ended.set()
        learner.join()

    assert set(lines) == {"a line of the log"}
