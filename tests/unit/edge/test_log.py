"""One event a line, with names of fields, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from common.log_fields import fields
from edge.config import LogSettings
from edge.log import set_up_logging
from edge.scrub import remember_secret, scrub

log = logging.getLogger("edge.test")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root, edge = logging.getLogger(), logging.getLogger("edge")
    before = root.handlers[:], root.level, edge.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    edge.setLevel(before[2])


def logged(settings: LogSettings, *arguments: object, **extra: object) -> str:
    stream = io.StringIO()
    set_up_logging(settings, stream)
    log.warning(*arguments, **extra)  # type: ignore[arg-type]
    return stream.getvalue()


def test_text_is_key_value_on_one_line() -> None:
    line = logged(LogSettings(), "two words", extra=fields(cluster="a b", count=3, reason="x\ny"))
    assert line.count("\n") == 1
    assert ' level=warning logger=edge.test event="two words" cluster="a b" count=3 ' in line
    assert line.endswith(r"reason=x\ny" + "\n")


def test_control_characters_reach_no_terminal() -> None:
    line = logged(LogSettings(), "seen", extra=fields(cluster="\x1b[31mred\r"))
    assert line.removesuffix("\n").isprintable()
    assert r"cluster=\x1b[31mred\r" in line


def test_json_is_one_object_a_line() -> None:
    line = logged(LogSettings(format="json"), "event", extra=fields(count=3, cluster="ä\n"))
    written = json.loads(line)
    assert line.count("\n") == 1
    assert written.pop("time").endswith("Z")
    assert written == {
        "level": "warning",
        "logger": "edge.test",
        "event": "event",
        "count": 3,
        "cluster": "ä\n",
    }


def test_secret_is_in_no_field_of_either_format() -> None:
    remember_secret("hunter3-hunter3")
    for settings in (LogSettings(), LogSettings(format="json")):
        facts = fields(reason=ValueError("hunter3-hunter3"), cluster="x hunter3-hunter3")
        assert "hunter3" not in logged(settings, "login with %s", "hunter3-hunter3", extra=facts)


def test_traceback_stays_on_the_line_and_is_scrubbed() -> None:
    remember_secret("hunter2-hunter2")
    try:
        raise ValueError("login with hunter2-hunter2 failed")
    except ValueError:
        line = logged(LogSettings(), "broken", exc_info=True)
    assert line.count("\n") == 1
    assert "Traceback" in line
    assert "hunter2" not in line


def test_level_is_that_of_the_configuration() -> None:
    stream = io.StringIO()
    set_up_logging(LogSettings(level="error"), stream)
    log.warning("quiet")
    assert not stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "password=s3cret-word",
        "Password: s3cret-word",
        '"password": "s3cret-word"',
        "Authorization: Basic s3cret-word",
        "vmware_soap_session=s3cret-word; Path=/",
        "http://user:s3cret-word@proxy:3128",
        "-----BEGIN PRIVATE KEY-----\ns3cret-word\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_blotted_out(text: str) -> None:
    assert "s3cret-word" not in scrub(text)
    assert "***" in scrub(text)


def test_ordinary_text_is_left_alone() -> None:
    text = "vCenter vc:443 refused user edge@vsphere.local, see https://vc:443/ui"
    assert scrub(text) == text
