"""Objects that could not be applied, and alarms that an operator has to look at."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from controlplane.store.bulk import upsert
from controlplane.store.own.schema import alarms, quarantine

LONGEST_REFERENCE = 191
"""Characters that its column holds."""


class QuarantineReason(Enum):
    """Why an object is in quarantine."""

    DUPLICATE_INSTANCE_UUID = "DUPLICATE_INSTANCE_UUID"
    """Another virtual machine has the same instance UUID; which one keeps it is being decided."""
    NO_INSTANCE_UUID = "NO_INSTANCE_UUID"
    """vCenter cannot read its configuration (inaccessible, orphaned, invalid)."""
    ROW_REFUSED = "ROW_REFUSED"
    """A database rejected its values."""
    UNREADABLE = "UNREADABLE"
    """Its message breaks the protocol."""


REFUSALS = frozenset({QuarantineReason.ROW_REFUSED.value, QuarantineReason.UNREADABLE.value})
"""Such objects are not held: they are requested from the edge again."""


class AlarmKind(Enum):
    """What an operator has to look at."""

    MASS_REMOVAL = "MASS_REMOVAL"
    """A whole cluster, or many virtual machines of one, went missing at once."""
    CLUSTER_IDENTITY = "CLUSTER_IDENTITY"
    """A cluster's reference now names something else: a vCenter restored from a backup."""
    UNRECORDED_DELETE = "UNRECORDED_DELETE"
    """Nova deleted servers whose virtual machines live on; they were restored."""


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """One object in quarantine."""

    vcenter_uuid: str
    reference: str
    reason: str
    message: str
    """For an operator: what is wrong and what to do."""
    name: str
    content_hash: bytes | None
    since: datetime
    tried_at: datetime
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm."""

    id: str
    vcenter_uuid: str
    kind: str
    cluster_uuid: str | None
    message: str
    held: tuple[str, ...]
    """References that are held back."""
    raised_at: datetime
    released_at: datetime | None = None
    released_by: str = ""
    settled_at: datetime | None = None


def list_all(connection: Connection, vcenter_uuid: str | None = None) -> list[QuarantineRow]:
    """Read what is in quarantine, newest first."""
    query = select(quarantine).order_by(quarantine.c.since.desc(), quarantine.c.reference)
    if vcenter_uuid is not None:
        query = query.where(quarantine.c.vcenter_uuid == vcenter_uuid)
    return [QuarantineRow(**row._mapping) for row in connection.execute(query)]


def put(connection: Connection, rows: Sequence[QuarantineRow]) -> None:
    """Put objects into quarantine; one that is there already keeps its ``since``."""
    columns = ["reason", "message", "name", "content_hash", "tried_at", "attempts"]
    upsert(connection, quarantine, [_values(row) for row in rows], columns)


def release(connection: Connection, vcenter_uuid: str, references: Collection[str]) -> None:
    """Take objects out of quarantine: they were applied, or they are gone."""
    if references:
        connection.execute(
            delete(quarantine).where(
                quarantine.c.vcenter_uuid == vcenter_uuid,
                quarantine.c.reference.in_(sorted(references)),
            )
        )


def raise_alarm(connection: Connection, alarm: AlarmRow) -> None:
    """Raise an alarm, or add to what it holds back."""
    values = {name: getattr(alarm, name) for name in alarms.c.keys()}  # noqa: SIM118
    values["held"] = json.dumps(list(alarm.held))
    upsert(connection, alarms, [values], ["message", "held"])


def open_alarms(connection: Connection, vcenter_uuid: str | None = None) -> list[AlarmRow]:
    """Read the alarms that are not settled, released ones too, newest first."""
    query = select(alarms).where(alarms.c.settled_at.is_(None)).order_by(alarms.c.raised_at.desc())
    if vcenter_uuid is not None:
        query = query.where(alarms.c.vcenter_uuid == vcenter_uuid)
    return [_alarm(row._mapping) for row in connection.execute(query)]


def release_alarm(connection: Connection, alarm_id: str, by: str, now: datetime) -> bool:
    """Apply what an alarm holds back, as an operator decided. Returns whether it was open."""
    result = connection.execute(
        update(alarms)
        .where(alarms.c.id == alarm_id, alarms.c.released_at.is_(None))
        .where(alarms.c.settled_at.is_(None))
        .values(released_at=now, released_by=by)
    )
    return result.rowcount > 0


def settle_alarm(connection: Connection, alarm_id: str, now: datetime) -> None:
    """Record that what an alarm held back was applied, or came back."""
    connection.execute(update(alarms).where(alarms.c.id == alarm_id).values(settled_at=now))


def _values(row: QuarantineRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in quarantine.c.keys()}  # noqa: SIM118


def _alarm(values: Any) -> AlarmRow:
    fields = dict(values)
    fields["held"] = tuple(json.loads(fields["held"]))
    return AlarmRow(**fields)
