"""Tables have whole words on any terminal, and a pipe gets nothing but text."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest
from rich.cells import cell_len

from common.terminal import (
    ESSENTIAL,
    Column,
    choose_format,
    console_for,
    print_plain,
    print_sentence,
    print_table,
    width_of,
)

MachineRow = tuple[str, str, str, str]
COLUMNS = (
    Column("Server", lambda row: row[0], rank=ESSENTIAL),
    Column("Status", lambda row: row[1], rank=ESSENTIAL),
    Column("Why", lambda row: row[2], prose=True, rank=ESSENTIAL),
    Column("Asked", lambda row: "2026-11-28 12:44:50Z", rank=1),
    Column("Peer", lambda row: "127.0.0.1:60416"),
    Column("UUID", lambda row: row[3]),
)
ROWS: tuple[MachineRow, ...] = (
    ("web-1", "ACTIVE", "-", "bcf64368-322d-5cb4-9e34-d735483952d1"),
    ("db-1", "ERROR", "the host is in maintenance and DRS is off", "3baa02b9-d78c-5e22-bd2c-b816"),
)

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Pty:
    """A terminal: what is written to ``slave`` can be read."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.slave: TextIO = os.fdopen(slave, "w")

    def read(self) -> list[str]:
        """Return all lines, without colours; nothing can be written any more."""
        self.slave.close()
        text = b"".join(iter(self._read_some, b"")).decode().replace("\r\n", "\n")
        return [line.rstrip() for line in COLOURS.sub("", text).rstrip("\n").split("\n")]

    def _read_some(self) -> bytes:
        try:
            return os.read(self._master, 65536)
        except OSError:  # what Linux says at the end
            return b""

    def close(self) -> None:
        self.slave.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Pty]]:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    made: list[Pty] = []

    def make(columns: int) -> Pty:
        made.append(Pty(columns))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.delenv("COLUMNS", raising=False)
    return io.StringIO()


def table(terminal: Callable[[int], Pty], width: int) -> list[str]:
    screen = terminal(width)
    print_table(ROWS, COLUMNS, screen.slave)
    return screen.read()


def test_columns_without_room_are_left_out_and_named(terminal: Callable[[int], Pty]) -> None:
    heading, _, web, *_, note, more = table(terminal, 70)
    assert heading.split() == ["Server", "Status", "Why", "Asked"]
    assert web.split() == ["web-1", "ACTIVE", "-", "2026-11-28", "12:44:50Z"]
    assert f"{note} {more}" == (
        "No room for: Peer, UUID. --format json has them, as has a terminal of 113 columns."
    )


def test_the_terminal_that_is_named_has_room_for_all(terminal: Callable[[int], Pty]) -> None:
    heading, *_, last = table(terminal, 113)
    assert heading.split()[-1] == "UUID"
    assert "No room" not in last
    assert table(terminal, 112)[0].split()[-1] == "Peer"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_line_is_longer_than_the_terminal(terminal: Callable[[int], Pty], width: int) -> None:
    assert max(map(cell_len, table(terminal, width))) <= width


def test_a_sentence_is_wrapped_between_words(terminal: Callable[[int], Pty]) -> None:
    lines = table(terminal, 62)
    assert lines[3:5] == ["db-1    ERROR   the host is in            2026-11-28 12:44:50Z",
                          "                maintenance and DRS is"]  # fmt: skip


def test_too_narrow_for_the_essential_columns_gives_an_item_lines_of_its_own(
    terminal: Callable[[int], Pty],
) -> None:
    lines = table(terminal, 26)
    assert lines[:2] == ["Server  web-1", "Status  ACTIVE"]
    assert lines.count("") == 1
    assert "UUID    3baa02b9-d78c-5e22" in lines
    assert "".join(lines).count("…") == 0


def test_wide_characters_count_as_two_columns(terminal: Callable[[int], Pty]) -> None:
    screen = terminal(20)
    columns = (Column("Name", lambda row: row, rank=ESSENTIAL), Column("Next", lambda row: "here"))
    print_table(["仮想マシン"], columns, screen.slave)
    assert screen.read()[2] == "仮想マシン  here"


def test_a_terminal_that_does_not_tell_its_size_has_80_columns(
    terminal: Callable[[int], Pty],
) -> None:
    assert width_of(terminal(0).slave) == 80


def test_a_table_in_a_pipe_is_as_wide_as_it_must_be(piped: io.StringIO) -> None:
    print_table(ROWS, COLUMNS, piped)
    lines = piped.getvalue().splitlines()
    assert lines[0].split()[-1] == "UUID"
    assert lines[3].split()[-1] == ROWS[1][3]
    assert "maintenance and DRS is off" in lines[3]


def test_columns_of_the_environment_count_in_a_pipe(
    piped: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    print_table(ROWS, COLUMNS, piped)
    assert "No room for: Peer, UUID." in piped.getvalue()


def test_a_pipe_gets_no_control_sequences_even_with_forced_colours(
    piped: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(ROWS, COLUMNS, piped, lambda cell: "red")
    print_table([], COLUMNS, piped)
    console_for(piped).print("over", style="bold")
    assert "\x1b" not in piped.getvalue()


def test_a_terminal_gets_colours(terminal: Callable[[int], Pty]) -> None:
    console = console_for(terminal(80).slave)
    assert console.is_terminal
    assert console.color_system


def test_plain_lines_have_every_column_and_one_line_for_each_item(piped: io.StringIO) -> None:
    print_plain([("web\t1", "up", "two\nlines", "u-1")], COLUMNS, piped)
    heading, line = piped.getvalue().splitlines()
    assert heading.split("\t") == [column.title for column in COLUMNS]
    assert line.split("\t")[:3] == ["web 1", "up", "two lines"]


def test_the_default_is_a_table_on_a_terminal_and_plain_elsewhere(
    terminal: Callable[[int], Pty], piped: io.StringIO
) -> None:
    assert choose_format(None, terminal(80).slave) == "table"
    assert choose_format(None, piped) == "plain"
    assert choose_format("json", piped) == "json"


def test_a_sentence_is_wrapped_on_a_terminal_and_one_line_elsewhere(
    terminal: Callable[[int], Pty], piped: io.StringIO
) -> None:
    sentence = "Compared in 0.1 s: " + ", ".join(["16 host in own"] * 10) + "."
    screen = terminal(60)
    print_sentence(sentence, screen.slave)
    lines = screen.read()
    assert max(map(cell_len, lines)) <= 60
    assert " ".join(lines) == sentence
    print_sentence(sentence, piped)
    assert piped.getvalue() == sentence + "\n"
