"""Logging: oslo.log's handlers and options, one event a line, no secrets.

    LOG.info("edge connected", extra=common.log_fields.fields(edge="site-1"))

becomes ``... edge connected edge=site-1``, or with ``[DEFAULT] use_json`` an object with the
top-level key ``edge``: the names are those of the edge's log.
"""

import copy
import json
import logging
import re
from typing import Any

from oslo_config import cfg
from oslo_log import log as oslo_log
from oslo_utils import strutils

from common.log_fields import fields_of, key_value
from controlplane.config.file import PROJECT

FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
"""Nova's default format without its request context: ours is in the fields."""

_JSON_TYPES = (str, int, float, dict, list, type(None))
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+(?=@)")


def setup(conf: cfg.ConfigOpts) -> None:
    """Install the handlers that ``[DEFAULT]`` asks for. Once, before the first log line."""
    quiet = [*oslo_log.get_default_log_levels(), "alembic=WARN"]
    oslo_log.set_defaults(logging_context_format_string=FORMAT, default_log_levels=quiet)
    conf.set_default("logging_default_format_string", FORMAT)
    oslo_log.setup(conf, PROJECT)
    logging.captureWarnings(True)
    kind = JsonFormatter if conf.use_json else TextFormatter
    for handler in logging.getLogger().handlers:
        handler.setFormatter(kind(handler.formatter or logging.Formatter(FORMAT)))


class TextFormatter(logging.Formatter):
    """Appends a line's fields as key=value, and masks what looks like a password in any of it."""

    def __init__(self, inner: logging.Formatter) -> None:
        """``inner`` is oslo.log's formatter."""
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Render one event as one line; a traceback follows it."""
        facts = fields_of(record)
        if facts:
            record = copy.copy(record)
            record.msg, record.args = f"{record.getMessage()} {key_value(_masked(facts))}", ()
        return _masked_text(self._inner.format(record))


class JsonFormatter(logging.Formatter):
    """Adds a line's fields to the object, beside oslo.log's own keys; masks as the text does."""

    def __init__(self, inner: logging.Formatter) -> None:
        """``inner`` is oslo.log's JSON formatter."""
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Render one event as one object."""
        values: dict[str, Any] = json.loads(self._inner.format(record))
        del values["args"]  # they are in the message, where they can be masked
        return json.dumps(_masked(values | fields_of(record)))


def _masked(facts: dict[str, Any]) -> dict[str, Any]:
    """Mask the values whose names say that they are secret, and passwords in all others."""
    plain = {
        name: each if isinstance(each, _JSON_TYPES) else str(each) for name, each in facts.items()
    }
    masked: dict[str, Any] = strutils.mask_dict_password(plain)
    return {
        name: _URL_PASSWORD.sub(r"\1***", value) if isinstance(value, str) else value
        for name, value in masked.items()
    }


def _masked_text(text: str) -> str:
    return _URL_PASSWORD.sub(r"\1***", strutils.mask_password(text))
