"""Logs: one event a line, as key=value or JSON, with the names of fields kept here.

    log.info("parity", extra=fields({GENERATION: 3}))

writes ``time=... level=info area=edge.sync.reconciliation event=parity generation=3``. Secrets are
blotted out of every line.
"""

import datetime
import json
import logging
import sys
from collections.abc import Mapping
from typing import Final, TextIO

from edge.config import LogSettings
from edge.scrub import scrub

ACTION: Final = "action"
ADDRESS: Final = "address"
ADVICE: Final = "advice"
BUCKETS_DIFFER: Final = "buckets_differ"
CLUSTER: Final = "cluster"
COUNT: Final = "count"
EDGE: Final = "edge"
EPOCH: Final = "epoch"
ERROR: Final = "error"
FENCING_EPOCH: Final = "fencing_epoch"
GENERATION: Final = "generation"
HELD: Final = "held"
HOLDER: Final = "holder"
INSTANCE_UUID: Final = "instance_uuid"
LINK: Final = "link"
MISMATCHES: Final = "mismatches"
NAME: Final = "name"
OBJECT: Final = "object"
OBJECTS: Final = "objects"
OPERATION: Final = "operation"
PROXY: Final = "proxy"
REASON: Final = "reason"
RECALLED: Final = "recalled"
REMOVALS: Final = "removals"
REQUEST: Final = "request"
SECONDS: Final = "seconds"
SKEW_SECONDS: Final = "skew_seconds"
STATE: Final = "state"
TASK: Final = "task"
VCENTER: Final = "vcenter"
VCENTER_SECONDS: Final = "vcenter_seconds"
VERSION: Final = "version"
WAIT_SECONDS: Final = "wait_seconds"

_FIELDS: Final = "fields"


def fields(*values: Mapping[str, object]) -> dict[str, object]:
    """Return fields and values in the form of logging's ``extra``."""
    merged: dict[str, object] = {}
    for each in values:
        merged.update(each)
    return {_FIELDS: merged}


def set_up_logging(settings: LogSettings, stream: TextIO = sys.stderr) -> None:
    """Send every log line of the process to ``stream``, as ``[log]`` says."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("edge").setLevel(settings.level.upper())


class TextFormatter(logging.Formatter):
    """key=value; a value with spaces, quotes or control characters is a JSON string."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return " ".join(f"{key}={_text(value)}" for key, value in _facts(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(_facts(record), ensure_ascii=False, default=str)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    facts: dict[str, object] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "area": record.name,
        "event": scrub(record.getMessage()),
    }
    for key, value in getattr(record, _FIELDS, {}).items():
        facts[key] = value if isinstance(value, (bool, int, float)) else scrub(str(value))
    if record.exc_info:
        facts["traceback"] = scrub(logging.Formatter().formatException(record.exc_info))
    return facts


def _text(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text, ensure_ascii=False)
