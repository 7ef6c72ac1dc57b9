"""Log lines: one event a line, fields where a program finds them, and no password in any."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.log_fields import fields
from controlplane.config import log
from controlplane.config.file import load

Lines = Callable[[], list[str]]


@pytest.fixture
def lines(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lines]:
    """What a control plane with these options has written so far."""
    file, config = tmp_path / "log", tmp_path / "controlplane.conf"
    config.write_text(f"[DEFAULT]\nlog_file = {file}\n{getattr(request, 'param', '')}\n")
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    conf = load([config]).conf
    assert conf is not None
    log.setup(conf)
    yield lambda: file.read_text().splitlines()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


with_json = pytest.mark.parametrize("lines", ["use_json = true"], indirect=True)


def test_fields_follow_the_event_on_one_line_and_can_be_told_apart(lines: Lines) -> None:
    logging.getLogger("controlplane.x").warning(
        "edge connected", extra=fields(edge="site-1", reason="a b\nc", operation=None, count=3)
    )
    (line,) = lines()
    assert line.endswith(
        r'WARNING controlplane.x edge connected edge=site-1 reason="a b\nc" count=3'
    )


@with_json
def test_fields_are_top_level_keys_in_json(lines: Lines) -> None:
    logging.getLogger("controlplane.x").warning("edge connected", extra=fields(edge="e", count=3))
    (line,) = lines()
    values = json.loads(line)
    assert (values["message"], values["edge"], values["count"]) == ("edge connected", "e", 3)
    assert (values["name"], values["levelname"]) == ("controlplane.x", "WARNING")


def _leak() -> None:
    logger = logging.getLogger("controlplane.x")
    url = "mysql+pymysql://vsg:hunter2@db/vsg"
    logger.warning("using %s", url)
    logger.warning("request {'password': 'hunter2'}")
    logger.warning("database away", extra=fields(error=ValueError(f"cannot reach {url}")))
    logger.warning("asked", extra=fields(password="hunter2"))
    try:
        raise ValueError(f"{url} is away")
    except ValueError:
        logger.exception("failed")


def test_passwords_are_masked_in_messages_fields_and_tracebacks(lines: Lines) -> None:
    _leak()
    assert "hunter2" not in "\n".join(lines())
    assert "mysql+pymysql://vsg:***@db/vsg" in lines()[0]


@with_json
def test_passwords_are_masked_in_json(lines: Lines) -> None:
    _leak()
    assert "hunter2" not in "\n".join(lines())
    assert json.loads(lines()[2])["error"] == "cannot reach mysql+pymysql://vsg:***@db/vsg"


def test_what_is_no_secret_stays(lines: Lines) -> None:
    logging.getLogger("controlplane.x").warning("edge %s at https://gw:443/", "site-1")
    assert lines()[0].endswith(" edge site-1 at https://gw:443/")
