"""The named values of a log line, in one form for both tiers.

    log.info("edge connected", extra=fields(edge="site-1", cluster=None))

becomes ``... event="edge connected" edge=site-1``: each tier's formatter renders the fields, as
key=value or as JSON. A value that is None is left out.
"""

import json
import logging
from typing import Final

RECORD_ATTRIBUTE: Final = "fields"


def fields(**facts: object) -> dict[str, object]:
    """Build logging's ``extra`` of named values."""
    return {RECORD_ATTRIBUTE: {name: each for name, each in facts.items() if each is not None}}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Read the named values of a log record; empty where the caller gave none."""
    found: dict[str, object] = getattr(record, RECORD_ATTRIBUTE, {})
    return found


def key_value(facts: dict[str, object]) -> str:
    """Render named values as ``key=value``, separated by spaces.

    A value that is empty or has spaces, quotes or control characters becomes a JSON string, so that
    one event stays one line and can be split again.
    """
    return " ".join(f"{name}={_text(each)}" for name, each in facts.items())


def _text(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text, ensure_ascii=not text.isprintable())
