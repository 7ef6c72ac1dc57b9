"""Runs the tour's commands as a person would type them, and shows each with what it printed."""

import dataclasses
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping

from rich.console import Console

POLL_SECONDS = 0.1


class TourError(Exception):
    """A step of the tour did not do what it should; the text says what was seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shell:
    """Commands with the demo's environment; ``console`` is plain where the output is piped."""

    console: Console
    environment: Mapping[str, str]
    servers: Callable[[], Mapping[str, str]] = dict
    """Name and status of every server, asked of OpenStack without starting a program."""

    def heading(self, text: str) -> None:
        """Announce a step."""
        self.console.print()
        self.console.print(f"== {text}", style="bold cyan", highlight=False)

    def say(self, text: str) -> None:
        """Explain something."""
        self.console.print(text, highlight=False)

    def show(self, command: str) -> str:
        """Run ``command``, print it with its output, and return the output.

        Raises ``TourError`` when it fails.
        """
        self.console.print(f"$ {command}", style="bold", highlight=False, soft_wrap=True)
        output = self.read(command)
        self.console.out(output.rstrip("\n"), highlight=False)
        return output

    def read(self, command: str) -> str:
        """Run ``command`` silently and return its output. Raises ``TourError`` when it fails."""
        done = subprocess.run(
            shlex.split(command),
            env={**os.environ, **self.environment, **self._width()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise TourError(f"{command}\nended with {done.returncode}:\n{done.stderr}{done.stdout}")
        return done.stdout

    def _width(self) -> dict[str, str]:
        """Return how our commands and `openstack` learn the terminal's width in spite of the pipe.

        Elsewhere nothing has to fit.
        """
        if not self.console.is_terminal:
            return {}
        width = str(self.console.width)
        return {"COLUMNS": width, "CLIFF_MAX_TERM_WIDTH": width}

    def wait(self, promise: str, kept: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until ``kept`` says so, and print how long it took.

        Raises ``TourError`` with ``promise`` when ``seconds`` have passed.
        """
        started = time.monotonic()
        while not kept():
            if time.monotonic() - started > seconds:
                raise TourError(f"not within {seconds:.0f} s: {promise}")
            time.sleep(POLL_SECONDS)
        self.console.print(
            f"   {promise}: after {time.monotonic() - started:.1f} s",
            style="green",
            highlight=False,
        )
