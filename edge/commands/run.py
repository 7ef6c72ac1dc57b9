"""`vsg-edge run`: connects vCenter and control plane for as long as the process lives."""

import logging
import signal
import sys
import threading
from pathlib import Path

from common.log_fields import fields
from edge.assembly import assemble
from edge.commands.exit_code import ExitCode
from edge.config import EdgeConfig, load_config
from edge.errors import EdgeError
from edge.log import set_up_logging
from edge.vcenter.client.faults import VCenterError

log = logging.getLogger(__name__)


def run(config: EdgeConfig, config_file: Path) -> ExitCode:
    """Run until SIGTERM or SIGINT; SIGHUP reads ``config_file`` again."""
    set_up_logging(config.log)
    try:
        edge = assemble(config)
    except VCenterError as error:
        print(f"{config_file}: vcenter.ca_file: {error}", file=sys.stderr)
        return ExitCode.CONFIG
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: edge.reload(lambda: load_config(config_file)))
    try:
        edge.run(stop)
    except EdgeError as error:
        log.error("edge ends", extra=fields(error=error))
        return ExitCode.FAILED
    return ExitCode.OK
