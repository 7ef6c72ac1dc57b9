"""Steps with their durations: live on a terminal, one line each in a pipe."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from common.terminal import console_for


@dataclass(frozen=True)
class Step:
    """Something to do as soon as the steps that it needs are done."""

    action: Callable[[], object]
    needs: tuple[str, ...] = ()


class Steps:
    """Shows steps while they run; several may run at once."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or console_for(sys.stderr)
        self._live: Progress | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Progress(
                SpinnerColumn(finished_text=""),
                # Rich's own column would cut a long name.
                TextColumn(
                    "{task.fields[mark]}{task.description}", table_column=Column(overflow="fold")
                ),
                TimeElapsedColumn(),
                console=self._console,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step while the block runs, and then how long it took."""
        started = time.monotonic()
        task = self._begin(name)
        try:
            yield
        except BaseException:
            self._end(task, name, "failed after", started)
            raise
        self._end(task, name, "done in", started)

    def _begin(self, name: str) -> TaskID | None:
        if self._live is not None:
            return self._live.add_task(name, total=1, mark="")
        self._console.print(f"{name} ...")
        return None

    def _end(self, task: TaskID | None, name: str, verdict: str, started: float) -> None:
        if self._live is not None and task is not None:
            mark = "[red]✗[/] " if verdict.startswith("failed") else "[green]✓[/] "
            self._live.update(task, completed=1, mark=mark)
            return
        seconds = time.monotonic() - started
        self._console.print(f"{name}: {verdict} {seconds:.1f} s")

    def run(self, steps: Mapping[str, Step], workers: int = 8) -> None:
        """Run steps side by side, each after those that it needs.

        The first error stops what has not begun, waits for what runs, and is raised.
        """
        waiting = dict(steps)
        done: set[str] = set()
        running: dict[Future[None], str] = {}
        with ThreadPoolExecutor(workers) as pool:
            while waiting or running:
                ready = [name for name in waiting if done.issuperset(waiting[name].needs)]
                for name in ready[: workers - len(running)]:
                    running[pool.submit(self._run_one, name, waiting.pop(name))] = name
                if not running:
                    raise ValueError(f"steps need each other or one that is missing: {waiting}")
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    done.add(running.pop(future))

    def _run_one(self, name: str, step: Step) -> None:
        with self.step(name):
            step.action()
