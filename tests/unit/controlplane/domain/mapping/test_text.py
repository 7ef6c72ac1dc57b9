"""Text survives Nova's and Glance's utf8mb3 columns."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.mapping.text import cut, escape, hostname, utc


@pytest.mark.parametrize(
    ("given_name", "stored"),
    [
        ("web-1", "web-1"),
        ("Büro/Käse", "Büro/Käse"),
        ("数据库", "数据库"),
        ("\U0001f600 fun", "\\u{1F600} fun"),
        ("tab\tand\nline", "tab and line"),
        ("terminal\x9b31m", "terminal 31m"),
        ("", ""),
    ],
)
def test_only_what_utf8mb3_refuses_is_escaped(given_name: str, stored: str) -> None:
    assert escape(given_name) == stored


@given(st.text())
def test_escaped_text_fits_three_bytes_a_character(text: str) -> None:
    assert all(len(character.encode()) <= 3 for character in escape(text).replace("\ud800", "")
               if not 0xD800 <= ord(character) <= 0xDFFF)  # fmt: skip


@given(st.text(), st.integers(min_value=0, max_value=300))
def test_cut_text_is_a_beginning_with_whole_escapes(text: str, length: int) -> None:
    shortened = cut(text, length)
    assert len(shortened) <= length
    assert escape(text).startswith(shortened)


def test_an_escape_is_never_cut_in_half() -> None:
    assert cut("x" * 250 + "\U0001f600\U0001f600") == "x" * 250
    assert cut("x" * 246 + "\U0001f600\U0001f600") == "x" * 246 + "\\u{1F600}"


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (("web01.example.org", "Web 01"), "web01"),
        (("", "My Server (old)"), "my-server-old"),
        (("", "数据库"), ""),
        (("-.-", "a" * 100), "a" * 63),
        (("", "x" * 62 + " y"), "x" * 62),
        (("localhost", "db"), "localhost"),
    ],
)
def test_host_names_are_what_a_guest_could_have(candidates: tuple[str, ...], expected: str) -> None:
    assert hostname(*candidates) == expected


def test_times_that_vcenter_does_not_know_are_none() -> None:
    assert utc(Timestamp()) is None
    assert utc(Timestamp(seconds=3600)) is None
    moment = utc(Timestamp(seconds=1_600_000_000, nanos=999))
    assert moment is not None
    assert (moment.year, moment.tzinfo, moment.microsecond) == (2020, None, 0)
