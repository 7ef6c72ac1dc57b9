"""``vsg-controlplane serve``: runs the control plane until a signal stops it."""

import logging
import os
import signal
import socket
import threading
from types import FrameType

from common.log_fields import fields
from common.process_memory import freeze_gc
from common.version import SOFTWARE_VERSION
from controlplane.assembly import ControlPlane
from controlplane.config import log
from controlplane.config.settings import Settings
from controlplane.domain.errors import StartError
from controlplane.store.errors import StoreError

LOG = logging.getLogger(__name__)

NOTIFY_SOCKET_VARIABLE = "NOTIFY_SOCKET"
EXIT_TAKEN_OVER = 75
"""Exit code when another has taken over, EX_TEMPFAIL of sysexits.h: restarted, we stand by."""


def serve(settings: Settings, *, standalone: bool) -> int:
    """Run until SIGTERM or SIGINT, then stop in order; a second signal ends at once.

    Raises ``ConfigurationError`` or ``StartError`` when it cannot start.
    """
    # Our databases, sockets and generated files are nobody else's.
    os.umask(0o077)
    assert settings.conf is not None
    log.setup(settings.conf)
    LOG.info("starting", extra=fields(version=SOFTWARE_VERSION, standalone=standalone))
    stopping = threading.Event()
    _stop_on_signals(stopping)
    control_plane = ControlPlane(settings, standalone=standalone, lost=_end_at_once)
    try:
        if control_plane.start(stopping, _standing_by):
            freeze_gc()
            _notify("READY=1\nSTATUS=active")
            LOG.info("ready")
            stopping.wait()
        _notify("STOPPING=1")
        LOG.info("stopping")
    except StoreError as error:
        raise StartError(f"a database cannot be used: {error}") from error
    finally:
        control_plane.stop()
    LOG.info("stopped")
    return 0


def _stop_on_signals(stopping: threading.Event) -> None:
    def handle(number: int, _: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _standing_by(reason: str) -> None:
    _notify(f"READY=1\nSTATUS={reason}")


def _end_at_once() -> None:
    """End without the ordered stop, which would still act. systemd starts the process again."""
    logging.shutdown()
    os._exit(EXIT_TAKEN_OVER)


def _notify(state: str) -> None:
    """Report to systemd, if it started us (sd_notify(3))."""
    address = os.environ.get(NOTIFY_SOCKET_VARIABLE, "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(state.encode(), address.replace("@", "\0", 1))
