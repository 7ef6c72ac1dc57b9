"""systemd's notification protocol, sd_notify(3): readiness, a status line and the watchdog."""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Notifies systemd; does nothing when systemd did not start the process."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = _watchdog_seconds(environment)
        """Longest time between two signs of life; None if systemd does not watch."""

    def ready(self) -> None:
        """The service has started."""
        self._notify("READY=1")

    def alive(self, status: str) -> None:
        """A sign of life, with a line for `systemctl status`."""
        self._notify(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The service stops in order."""
        self._notify("STOPPING=1\nSTATUS=stopping")

    def _notify(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.connect(self._address)
            notifier.sendall(text.encode())


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    for_process = environment.get("WATCHDOG_PID", str(os.getpid()))
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or for_process != str(os.getpid()):
        return None
    return int(microseconds) / 1e6
