"""Quarantine remembers since when, and takes no broken row."""

from datetime import datetime, timedelta

import pytest

from controlplane.store.database import Database
from controlplane.store.errors import RowRejectedError
from controlplane.store.own import quarantine
from controlplane.store.own.quarantine import QuarantineRow

NOW = datetime(2026, 11, 22, 12)  # noqa: DTZ001 - as the columns hold it


def test_object_in_quarantine_keeps_its_beginning(own: Database) -> None:
    row = QuarantineRow("vc", "VirtualMachine:vm-1", "ROW_REFUSED", "m", "n", None, NOW, NOW)
    later = NOW + timedelta(hours=1)
    again = QuarantineRow(
        "vc", "VirtualMachine:vm-1", "ROW_REFUSED", "m2", "n", b"h" * 16, later, later, 2
    )

    own.run(lambda c: quarantine.put(c, [row]))
    own.run(lambda c: quarantine.put(c, [again]))

    with own.read() as connection:
        (found,) = quarantine.list_all(connection)
    assert (found.since, found.tried_at, found.attempts, found.message) == (NOW, later, 2, "m2")


def test_value_that_breaks_a_rule_of_the_table_is_refused(own: Database) -> None:
    broken = QuarantineRow("vc", "k", None, "m", "n", None, NOW, NOW)  # type: ignore[arg-type]

    with pytest.raises(RowRejectedError):
        own.run(lambda c: quarantine.put(c, [broken]))
