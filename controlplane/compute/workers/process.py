"""A worker's process: started, found again after a crash of the control plane, watched, ended.

A Linux process file descriptor always refers to the same process, whoever's child it is: a signal
never reaches another process that was given the same number (pidfd_open(2)).
"""

import json
import logging
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from common.log_fields import fields

log = logging.getLogger(__name__)

RECORD = "worker.json"
OUTPUT = "worker.out"


class WorkerProcess:
    """One running process. Thread-safe."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Open a process. Raises ``ProcessLookupError`` when it has ended."""
        self.pid = pid
        self._child = child
        self._descriptor = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def watch(self, ended: Callable[[int | None], None]) -> None:
        """Call ``ended`` with the exit status, in a thread, when the process has ended.

        The status is None for a process that another parent started.
        """

        def wait() -> None:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            poll.poll()
            status = self._child.wait() if self._child is not None else None
            with self._lock:
                os.close(self._descriptor)
                self._descriptor = -1
            ended(status)

        threading.Thread(target=wait, name=f"worker-{self.pid}", daemon=True).start()

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._descriptor < 0:
                return
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                log.debug("process has ended", extra=fields(pid=self.pid))


def start(command: Sequence[str], directory: Path, fingerprint: str) -> WorkerProcess:
    """Start a worker in a session of its own and record it. Raises ``OSError``."""
    with (directory / OUTPUT).open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=directory,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    process = WorkerProcess(child.pid, child)
    try:
        _record(directory, child.pid, fingerprint)
    except OSError:
        process.kill()  # nobody could find it again
        child.wait()
        raise
    return process


def find(directory: Path) -> tuple[WorkerProcess, str] | None:
    """Find the worker that an earlier control plane left running, and its fingerprint."""
    try:
        record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        process = WorkerProcess(int(record["pid"]))
        if record["started"] == _started(process.pid):
            return process, str(record["fingerprint"])
    except (OSError, ValueError, KeyError) as error:
        log.debug("no worker left", extra=fields(directory=directory, error=error))
    return None


def terminate_left(directory: Path) -> None:
    """Ask the workers that an earlier control plane left running to end.

    ``directory`` holds the workers' directories.
    """
    for record in directory.glob(f"*/{RECORD}"):
        found = find(record.parent)
        if found is not None:
            log.warning(
                "worker of an earlier control plane is ended", extra=fields(pid=found[0].pid)
            )
            found[0].terminate()


def last_output(directory: Path) -> str:
    """Read the last line that a worker printed; empty when there is none."""
    try:
        lines = (directory / OUTPUT).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _record(directory: Path, pid: int, fingerprint: str) -> None:
    record = {"pid": pid, "started": _started(pid), "fingerprint": fingerprint}
    draft = directory / f".{RECORD}.draft"
    draft.write_text(json.dumps(record), encoding="utf-8")
    draft.replace(directory / RECORD)


def _started(pid: int) -> str:
    """Identify a process beyond its number: by boot and start time (proc(5), field 22)."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return f"{boot}:{status.rpartition(')')[2].split()[19]}"
