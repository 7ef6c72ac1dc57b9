"""What all commands print for people: tables that fit the terminal, and nothing but text in a pipe.

No cell is ever cut. Where a table has no room, sentences are wrapped, then whole columns are left
out and named below; where even the essential ones have none, each item gets lines of its own.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

FORMATS = ("table", "plain", "json")

GAP = 2
"""Spaces between two columns."""
PROSE_WIDTH = 20
"""Sentences are not wrapped into less than this as long as a column can be left out."""
LONGEST_WORD = 40
"""A longer word than this (a UUID has 36 characters) may be broken rather than cost a column."""
ESSENTIAL = 9
"""Rank of a column that is never left out."""
USUAL_WIDTH = 80
"""What a terminal that does not tell its size is taken for."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, and how to get its cell from an item."""

    title: str
    text: Callable[[Any], str]
    right: bool = False
    """A number, aligned to the right."""
    prose: bool = False
    """A sentence or a list, which may be broken into lines."""
    rank: int = 0
    """The highest have room first; of equal ones, those on the left."""


def choose_format(form: str | None, file: TextIO) -> str:
    """The format asked for: by default a table on a terminal, else plain."""
    return form or ("table" if file.isatty() else "plain")


def console_for(file: TextIO, width: int | None = None) -> Console:
    """A console that moves the cursor and has colours on a terminal alone.

    Rich believes FORCE_COLOR, which build servers set, and would draw its spinners into a log.
    """
    return Console(
        file=file,
        force_terminal=file.isatty(),
        highlight=False,
        markup=False,
        emoji=False,
        width=width,
    )


def width_of(file: TextIO) -> int | None:
    """How many columns a line may have; None where nothing limits it.

    COLUMNS counts before the terminal, as everywhere.
    """
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    if not file.isatty():
        return None
    try:
        return os.get_terminal_size(file.fileno()).columns or USUAL_WIDTH
    except OSError:  # a terminal that is no device
        return USUAL_WIDTH


def print_plain(items: Sequence[Any], columns: Sequence[Column], file: TextIO) -> None:
    """Print a line of titles and one for each item, with tabs between the cells."""
    print("\t".join(column.title for column in columns), file=file)
    for item in items:
        print("\t".join(_cell(column, item) for column in columns), file=file)


def print_table(
    items: Sequence[Any],
    columns: Sequence[Column],
    file: TextIO,
    style: Callable[[str], str] = lambda cell: "",
) -> None:
    """Print an aligned table; ``style`` is Rich's name of how a cell looks."""
    if not items:
        console_for(file).print("None.", style="dim")
        return
    measured = [_Measured(column, [_cell(column, item) for item in items]) for column in columns]
    width = width_of(file) or _total([one.longest for one in measured])
    out = console_for(file, width)
    shown = _that_fit(measured, width)
    widths = _widths(shown, width)
    if _total(widths) > width:
        _print_records(measured, out, style)
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for one, column_width in zip(shown, widths, strict=True):
        table.add_column(
            one.column.title,
            justify="right" if one.column.right else "left",
            overflow="fold",
            width=column_width,
        )
    for row in zip(*(one.cells for one in shown), strict=True):
        table.add_row(*(Text(cell, style=style(cell)) for cell in row))
    out.print(table)
    left_out = [one.column.title for one in measured if one not in shown]
    if left_out:
        out.print(
            f"No room for: {', '.join(left_out)}. --format json has them, as has a terminal "
            f"of {_total([one.least for one in measured])} columns.",
            style="dim",
        )


def _print_records(
    measured: Sequence["_Measured"], out: Console, style: Callable[[str], str]
) -> None:
    """Print each item as lines of title and cell, with an empty line between two items."""
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for number, cells in enumerate(zip(*(one.cells for one in measured), strict=True)):
        if number:
            table.add_row()
        for one, cell in zip(measured, cells, strict=True):
            table.add_row(one.column.title, Text(cell, style=style(cell)))
    out.print(table)


def print_sentence(text: str, file: TextIO) -> None:
    """Print a sentence: wrapped between words on a terminal, one line elsewhere."""
    width = width_of(file)
    console_for(file, width).print(text, soft_wrap=width is None)


class _Measured:
    """A column with its cells and the widths it can do with."""

    def __init__(self, column: Column, cells: Sequence[str]) -> None:
        self.column = column
        self.cells = cells
        texts = [column.title, *cells]
        self.longest = max(map(cell_len, texts))
        """Of one line for each cell."""
        self.word = max(cell_len(word) for text in texts for word in [*text.split(), ""])
        """Of the longest word that stays whole."""
        self.least = self.longest
        """Of what is easy to read."""
        if column.prose:
            self.word = min(self.word, LONGEST_WORD)
            self.least = min(self.longest, max(PROSE_WIDTH, self.word))


def _cell(column: Column, item: Any) -> str:
    return " ".join(column.text(item).split())


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _that_fit(measured: Sequence[_Measured], width: int) -> list[_Measured]:
    """The essential columns, and of the others those that have room beside them."""
    shown: set[int] = set()
    for number in sorted(range(len(measured)), key=lambda n: (-measured[n].column.rank, n)):
        room = _total([measured[n].least for n in [*shown, number]]) <= width
        if room or measured[number].column.rank == ESSENTIAL:
            shown.add(number)
    return [measured[n] for n in sorted(shown)]


def _widths(shown: Sequence[_Measured], width: int) -> list[int]:
    """The columns' widths: sentences are wrapped first, then all else between words.

    They have too much in sum where that is not enough.
    """
    widths = [one.longest for one in shown]
    for floors in ([one.least for one in shown], [one.word for one in shown]):
        while _total(widths) > width:
            above = [n for n, floor in enumerate(floors) if widths[n] > floor]
            if not above:
                break
            widths[max(above, key=widths.__getitem__)] -= 1
    return widths
