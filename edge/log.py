"""Logs: one event a line, as key=value (logfmt) or JSON, rendered by structlog.

    log.info("parity", extra=common.log_fields.fields(generation=3))

writes ``time=... level=info logger=edge.sync.reconciliation event=parity generation=3``. Loggers
are the standard library's, so that lines of other packages look the same. No secret is in a line.
"""

import logging
import sys
import traceback
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from common.log_fields import fields_of
from edge.config import LogFormat, LogSettings
from edge.scrub import scrub

_FIRST: Final = ("time", "level", "logger", "event")


def set_up_logging(settings: LogSettings, stream: TextIO = sys.stderr) -> None:
    """Send every log line of the process to ``stream``, as ``[log]`` says."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(settings.format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("edge", "common", "certs"):
        logging.getLogger(ours).setLevel(settings.level.upper())


def _formatter(log_format: LogFormat) -> logging.Formatter:
    meta: list[Processor] = [
        structlog.processors.TimeStamper("iso", utc=True, key="time"),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_fields,
        _add_traceback,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _scrub_values,
    ]
    render: list[Processor] = (
        [structlog.processors.JSONRenderer(ensure_ascii=False)]
        if log_format == "json"
        else [
            _escape_control_characters,
            structlog.processors.LogfmtRenderer(
                key_order=_FIRST, drop_missing=True, bool_as_flag=False
            ),
        ]
    )
    return structlog.stdlib.ProcessorFormatter(processors=[*meta, *render])


# Processors of structlog: each gets what the one before it returned.


def _add_fields(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event.update(fields_of(event["_record"]))
    return event


def _add_traceback(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """As oslo.log's JSON names it on the control plane; last, because it is long."""
    if error := event.pop("exc_info", None):
        event["traceback"] = "".join(traceback.format_exception(error[1])).rstrip()
    return event


def _scrub_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {
        key: value if isinstance(value, (bool, int, float)) else scrub(str(value))
        for key, value in event.items()
    }


def _escape_control_characters(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A name in vCenter may hold them, and a terminal obeys them; structlog escapes line breaks."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(map(_escaped, value))
    return event


def _escaped(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return character.encode("unicode_escape").decode("ascii")
