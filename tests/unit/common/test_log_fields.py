"""The named values of a log line."""

import logging

from common.log_fields import fields, fields_of, key_value


def test_what_is_none_is_left_out() -> None:
    record = logging.makeLogRecord(fields(edge="site-1", cluster=None))

    assert fields_of(record) == {"edge": "site-1"}
    assert fields_of(logging.makeLogRecord({})) == {}


def test_one_event_stays_one_line_that_can_be_split_again() -> None:
    line = key_value({"edge": "site-1", "reason": 'no "route"\nto host', "empty": "", "objects": 3})

    assert line == 'edge=site-1 reason="no \\"route\\"\\nto host" empty="" objects=3'
