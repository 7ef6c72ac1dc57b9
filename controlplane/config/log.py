"""Logging: oslo.log's handlers and options, one event a line, context as key=value, no secrets."""

import json
import logging
import re
from typing import Any

from oslo_config import cfg
from oslo_log import log as oslo_log
from oslo_utils import strutils

from controlplane.config.file import PROJECT

FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
"""Nova's default format without its request context: ours is in the message."""

_PLAIN = re.compile(r"[\w.:/@+,*~%-]+")
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+(?=@)")


def setup(conf: cfg.ConfigOpts) -> None:
    """Install the handlers that ``[DEFAULT]`` asks for. Once, before the first log line."""
    quiet = [*oslo_log.get_default_log_levels(), "alembic=WARN"]
    oslo_log.set_defaults(logging_context_format_string=FORMAT, default_log_levels=quiet)
    conf.set_default("logging_default_format_string", FORMAT)
    oslo_log.setup(conf, PROJECT)
    logging.captureWarnings(True)
    secrets = SecretFilter()
    for handler in logging.getLogger().handlers:
        handler.addFilter(secrets)


def keyed(**context: Any) -> str:
    """Render context for a log line: ``edge=site-1 vcenter=...``; None is left out.

    A value with a space, quote or line break is quoted, so that one event stays one line.
    """
    return " ".join(f"{key}={_value(value)}" for key, value in context.items() if value is not None)


def _value(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class SecretFilter(logging.Filter):
    """Masks what looks like a password in any library's message, URLs of databases included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record's message; never drops it."""
        message = record.getMessage()
        masked = _URL_PASSWORD.sub(r"\1***", strutils.mask_password(message))
        if masked != message:
            record.msg, record.args = masked, ()
        return True
