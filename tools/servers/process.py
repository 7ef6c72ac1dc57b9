"""Background processes that are known by pid file, and only by that ever ended."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tools.servers.state import ServerError

POLL_SECONDS = 0.05
LOG_TAIL_LINES = 15


class _Stat(NamedTuple):
    """What the kernel says of a process that has not ended (proc(5), `stat`)."""

    group: int
    started: str
    """Clock ticks."""


def _stat(file: Path) -> _Stat | None:
    """Read it; None once the process holds nothing any more, no port above all.

    When its first thread has ended it is a zombie already, while others may still hold its ports.
    """
    try:
        text = file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    state, group, threads, started = fields[0], fields[2], fields[17], fields[19]
    return None if state in "ZX" and int(threads) <= 1 else _Stat(int(group), started)


def _start_time(pid: int) -> str | None:
    """Clock ticks at which a process started, None if it is gone."""
    stat = _stat(Path(f"/proc/{pid}/stat"))
    return None if stat is None else stat.started


def _group_lives(leader: int) -> bool:
    """Whether any process of a group is there."""
    found = map(_stat, Path("/proc").glob("[0-9]*/stat"))
    return any(stat is not None and stat.group == leader for stat in found)


@dataclass
class Daemon:
    """One background process in a session of its own, with a log file and a pid file."""

    name: str
    folder: Path
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 20
    _child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Pid and start time, which together name one process."""
        return self.folder / f"{self.name}.pid"

    @property
    def pid(self) -> int | None:
        """The running process, None if it is not running."""
        if self._child is not None:
            self._child.poll()
        try:
            record = json.loads(self.pid_file.read_text())
        except FileNotFoundError:
            return None
        pid = int(record["pid"])
        return pid if _start_time(pid) == record["started"] else None

    def start(self) -> None:
        """Start the process, with an empty log, unless it runs already."""
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [str(part) for part in self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=os.environ | dict(self.environment),
                start_new_session=True,
            )
        pid = self._child.pid
        self.pid_file.write_text(json.dumps({"pid": pid, "started": _start_time(pid)}))

    def wait_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until ready() is true.

        Raises ServerError, with the end of the log, if the process ends or time runs out.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.pid is None:
                raise ServerError(f"{self.name} ended while starting; {self._log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name}: not ready after {seconds:.0f} s; {self._log_tail()}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End the process and what it started, politely first."""
        pid = self.pid
        if pid is not None:
            self._signal(pid, self.stop_signal)
            if not self._wait_gone(self.stop_seconds):
                self._signal(pid, signal.SIGKILL)
                self._wait_gone(self.stop_seconds)
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the process and what it started as a crash does: without a chance to tidy up."""
        pid = self.pid
        if pid is None:
            raise ServerError(f"{self.name} is not running")
        self._signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + self.stop_seconds
        while _group_lives(pid):
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} outlived SIGKILL")
            time.sleep(POLL_SECONDS)

    def suspend(self) -> None:
        """Freeze the process: its connections stay open and nothing answers."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and what it started."""
        pid = self.pid
        if pid is None:
            raise ServerError(f"{self.name} is not running")
        self._signal(pid, number)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return

    def _wait_gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"the end of {self.log}:", *(f"  {line}" for line in lines)])


def run(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a command to its end, its output in a log file.

    Raises ServerError, naming the log and with its last lines, if the command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        result = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
            cwd=cwd,
            check=False,
        )
    if result.returncode:
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        name = " ".join(str(part) for part in command[:3])
        raise ServerError("\n".join([f"`{name} ...` failed; the end of {log}:", *lines]))
