"""Figures, their peers, and the page that keeps them."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

PACKAGES = ("grpcio", "lxml", "nova", "pymysql", "pyvmomi", "sqlalchemy")


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measurement, and what the peer took in the same run."""

    size: int
    """Virtual machines in the vCenter."""
    what: str
    value: float
    unit: str
    peer: str = ""
    """What the peer is; empty where there is none."""
    peer_value: float = 0

    @property
    def ratio(self) -> str:
        """Ours over the peer's; below 1 is better."""
        return f"{self.value / self.peer_value:.2f}" if self.peer_value else ""

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        peer_value = f"{self.peer_value:.3g} {self.unit}" if self.peer else ""
        value = f"{self.value:.3g} {self.unit}"
        return f"{self.size:,}", self.what, value, self.peer, peer_value, self.ratio


PLOTTED = (
    ("first sync", "s"),
    ("restart to parity", "s"),
    ("power change, median", "ms"),
    ("power change, 99th percentile", "ms"),
    ("new VM, median", "ms"),
    ("edge resident at the end", "MiB"),
    ("control plane resident at the end", "MiB"),
)
"""What is drawn against size, and its unit."""
STORED = "figures.json"
HEADINGS = ("VMs", "what", "ours", "peer", "peer's", "ratio")


def show(console: Console, figures: Sequence[Figure]) -> None:
    """Print all figures as a table."""
    table = Table(*HEADINGS, box=None)
    for figure in figures:
        table.add_row(*figure.cells())
    console.print(table)


def with_other_sizes(figures: Sequence[Figure], place: Path, today: str) -> list[Figure]:
    """Return ``figures`` with those that other runs of the same day measured at other sizes.

    Keeps all of them in ``place`` for the next run.
    """
    file = place / STORED
    stored = json.loads(file.read_text()) if file.exists() else {}
    sizes = {figure.size for figure in figures}
    others = [Figure(**one) for one in stored.get(today, []) if one["size"] not in sizes]
    every = sorted([*others, *figures], key=lambda one: one.size)
    file.write_text(json.dumps({today: [dataclasses.asdict(one) for one in every]}))
    return every


def write(page: Path, figures: Sequence[Figure], now: datetime.datetime, notes: str) -> None:
    """Write the page: machine, versions, date, figures, notes; more sizes than one are plotted."""
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *(figure.cells() for figure in figures)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    page.write_text(
        f"# Benchmarks\n\nWritten by `make bench`. {_machine()}. {now:%Y-%m-%d}.\n"
        f"{_versions()}.\n\n{table}\n\n{notes}{_plots(figures)}"
    )


def _plots(figures: Sequence[Figure]) -> str:
    """Return a chart of each plotted figure against size, as Mermaid draws it."""
    charts = []
    for what, unit in PLOTTED:
        points = sorted((one for one in figures if one.what == what), key=lambda one: one.size)
        if len(points) > 1:
            charts.append(_chart(what, unit, points))
    return "\n## Against size\n\n" + "\n".join(charts) if charts else ""


def _chart(what: str, unit: str, points: Sequence[Figure]) -> str:
    peer = points[0].peer
    lines = [
        f"### {what}" + (f" (bars: {peer})" if peer else ""),
        "",
        "```mermaid",
        "xychart-beta",
        f'    x-axis "virtual machines" [{", ".join(str(one.size) for one in points)}]',
        f'    y-axis "{unit}"',
        f"    line [{', '.join(f'{one.value:.4g}' for one in points)}]",
    ]
    if peer:
        lines.append(f"    bar [{', '.join(f'{one.peer_value:.4g}' for one in points)}]")
    return "\n".join([*lines, "```", ""])


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return f"{os.cpu_count()} cores of {model}, {memory} GiB, shared with vCenter and databases"


def _versions() -> str:
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {packages}"
