"""Log lines: one event a line, and no password in any of them."""

import logging

from controlplane.config.log import SecretFilter, keyed


def masked(message: str, *arguments: object) -> str:
    record = logging.LogRecord("x", logging.INFO, "", 0, message, arguments, None)
    SecretFilter().filter(record)
    return record.getMessage()


def test_context_stays_on_one_line_and_can_be_told_apart() -> None:
    line = keyed(edge="site-1", reason="a b\nc", operation=None, count=3)
    assert line == 'edge=site-1 reason="a b\\nc" count=3'


def test_passwords_of_any_library_are_masked() -> None:
    assert "hunter2" not in masked("using %s", "mysql+pymysql://vsg:hunter2@db/vsg")
    assert "hunter2" not in masked("request {'password': 'hunter2'}")
    assert masked("edge %s at https://gw:443/", "site-1") == "edge site-1 at https://gw:443/"
