"""Removes servers whose virtual machines are gone, or are no longer managed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import sqlalchemy
from sqlalchemy.engine import Connection

from common.log_fields import fields
from common.timestamps import naive_utc_now
from controlplane.domain.records import Announced, RemovalChange, RemovalOutcome, ServerAnnouncement
from controlplane.store import bulk
from controlplane.store.nova import api_rows, cell_rows
from controlplane.store.nova.cell_rows import Existing
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.primitives import DamagedRowError, interfaces, is_ours
from controlplane.store.nova.tables import (
    BLOCK_DEVICES,
    COMPUTE_NODES,
    CONSOLE_TOKENS,
    FAULTS,
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCES,
    METADATA,
    MIGRATIONS,
    SYSTEM_METADATA,
    TAGS,
    VIRTUAL_INTERFACES,
)

LOG = logging.getLogger(__name__)

_SOFT_DELETED = (
    INFO_CACHES,
    METADATA,
    FAULTS,
    INSTANCE_EXTRA,
    SYSTEM_METADATA,
    BLOCK_DEVICES,
    MIGRATIONS,
    VIRTUAL_INTERFACES,
)
"""The children that nova/db/main/api.py:instance_destroy marks deleted."""


class NovaDeletion(Protocol):
    """Nova's own delete, which gives ports back to Neutron and volumes to Cinder."""

    def delete(self, uuid: str) -> str:
        """Ask for it; returns an empty string, or for an operator why it could not be asked for."""


@dataclass(frozen=True, slots=True)
class _Holdings:
    """What a server holds of other services."""

    ports: int
    volumes: int

    def __bool__(self) -> bool:
        return bool(self.ports or self.volumes)

    def __str__(self) -> str:
        return f"{self.ports} port(s) and {self.volumes} volume(s)"


class ServerRemoval:
    """Removes servers: ``NovaServers``' deletes and unmanages."""

    def __init__(
        self,
        databases: NovaDatabases,
        nova: NovaDeletion | None,
        clock: Callable[[], datetime] = naive_utc_now,
    ) -> None:
        """``nova`` is None where no Nova runs: then a server is nothing but its rows."""
        self._databases = databases
        self._nova = nova
        self._clock = clock

    def delete(self, uuids: Sequence[str]) -> list[RemovalOutcome]:
        """Delete servers whose virtual machines are gone (``ServerWriter.delete``)."""
        outcomes = []
        for batch in bulk.batches(sorted(set(uuids))):
            outcomes += self._databases.cell.run(
                lambda connection, batch=batch: self._delete(connection, batch)  # type: ignore[misc]
            )
        return [self._ask_nova(outcome) for outcome in outcomes]

    def unmanage(self, uuids: Sequence[str]) -> list[RemovalOutcome]:
        """Take servers out of Nova whose virtual machines stay (``ServerWriter.unmanage``).

        Never through Nova's delete, which would destroy the virtual machine.
        """
        outcomes = []
        for batch in bulk.batches(sorted(set(uuids))):
            outcomes += self._databases.cell.run(
                lambda connection, batch=batch: self._unmanage(connection, batch)  # type: ignore[misc]
            )
        return outcomes

    def _delete(self, connection: Connection, uuids: Sequence[str]) -> list[RemovalOutcome]:
        stored = cell_rows.lock(connection, uuids)
        verdicts = {uuid: self._verdict(uuid, stored.get(uuid)) for uuid in uuids}
        going = {
            uuid: stored[uuid]
            for uuid, verdict in verdicts.items()
            if verdict.change is RemovalChange.DELETED
        }
        providers = self._remove(connection, going)
        self._unprotect(
            connection,
            [u for u, verdict in verdicts.items() if verdict.change is RemovalChange.REQUESTED],
        )
        return [
            _done(RemovalChange.DELETED, Announced.DELETE, uuid, providers)
            if uuid in going
            else verdict
            for uuid, verdict in verdicts.items()
        ]

    def _verdict(self, uuid: str, server: Existing | None) -> RemovalOutcome:
        if server is None or server.columns["deleted"]:
            return RemovalOutcome(uuid, RemovalChange.ABSENT)
        task = server.columns["task_state"]
        if task is not None:
            reason = f"Nova is busy with it (task_state {task})"
            return RemovalOutcome(uuid, RemovalChange.DEFERRED, reason)
        holdings = _holdings(server)
        if holdings and self._nova is not None:
            return RemovalOutcome(uuid, RemovalChange.REQUESTED, f"it has {holdings}")
        return RemovalOutcome(uuid, RemovalChange.DELETED)

    def _unmanage(self, connection: Connection, uuids: Sequence[str]) -> list[RemovalOutcome]:
        stored = cell_rows.lock(connection, uuids)
        living = {uuid: server for uuid, server in stored.items() if not server.columns["deleted"]}
        going = {u: server for u, server in living.items() if server.columns["task_state"] is None}
        providers = self._remove(connection, going)
        outcomes = []
        for uuid in uuids:
            if uuid in going:
                left = _holdings(going[uuid])
                reason = f"{left} are left, and nothing deletes them" if left else ""
                outcomes.append(
                    _done(RemovalChange.UNMANAGED, Announced.UNMANAGE, uuid, providers, reason)
                )
            elif uuid in living:
                task = living[uuid].columns["task_state"]
                reason = f"Nova is busy with it (task_state {task})"
                outcomes.append(RemovalOutcome(uuid, RemovalChange.DEFERRED, reason))
            else:
                outcomes.append(RemovalOutcome(uuid, RemovalChange.ABSENT))
        return outcomes

    def _remove(self, connection: Connection, going: dict[str, Existing]) -> dict[str, str]:
        """Leave the rows as Nova's own delete does; returns the resource providers by server."""
        if not going:
            return {}
        now = self._clock()
        providers = _providers(connection, going)
        api_rows.queue_for_delete(self._databases.api, going, now)
        uuids = list(going)
        for table in _SOFT_DELETED:
            connection.execute(
                table.update()
                .where(table.c.instance_uuid.in_(uuids), table.c.deleted == 0)
                .values(deleted=table.c.id, deleted_at=now, updated_at=table.c.updated_at)
            )
        connection.execute(TAGS.delete().where(TAGS.c.resource_id.in_(uuids)))
        connection.execute(CONSOLE_TOKENS.delete().where(CONSOLE_TOKENS.c.instance_uuid.in_(uuids)))
        connection.execute(
            INSTANCES.update()
            .where(INSTANCES.c.uuid.in_(uuids))
            .values(
                deleted=INSTANCES.c.id,
                deleted_at=now,
                terminated_at=now,
                updated_at=now,
                vm_state="deleted",
                task_state=None,
                power_state=0,
            )
        )
        return providers

    def _unprotect(self, connection: Connection, uuids: Sequence[str]) -> None:
        # Nova skips a delete silently, an administrator's too, where disable_terminate is set.
        if uuids:
            connection.execute(
                INSTANCES.update()
                .where(INSTANCES.c.uuid.in_(uuids), INSTANCES.c.disable_terminate.is_(True))
                .values(disable_terminate=False)
            )

    def _ask_nova(self, outcome: RemovalOutcome) -> RemovalOutcome:
        if outcome.change is not RemovalChange.REQUESTED or self._nova is None:
            return outcome
        problem = self._nova.delete(outcome.uuid)
        if not problem:
            LOG.info(
                "delete left to Nova", extra=fields(server=outcome.uuid, reason=outcome.reason)
            )
            return outcome
        LOG.warning("delete refused by Nova", extra=fields(server=outcome.uuid, reason=problem))
        return RemovalOutcome(outcome.uuid, RemovalChange.DEFERRED, problem)


def _holdings(server: Existing) -> _Holdings:
    cache = server.info_cache["network_info"] if server.info_cache else None
    try:
        ports = sum(not is_ours(vif) for vif in interfaces(cache))
    except DamagedRowError:
        ports = 1  # unknown: Nova asks Neutron
    return _Holdings(
        ports=ports,
        volumes=sum(row["destination_type"] == "volume" for row in server.devices.values()),
    )


def _providers(connection: Connection, going: dict[str, Existing]) -> dict[str, str]:
    columns = (COMPUTE_NODES.c.host, COMPUTE_NODES.c.hypervisor_hostname, COMPUTE_NODES.c.uuid)
    hosts = {server.columns["host"] for server in going.values() if server.columns["host"]}
    statement = sqlalchemy.select(*columns).where(COMPUTE_NODES.c.host.in_(sorted(hosts)))
    nodes = {(host, node): uuid for host, node, uuid in connection.execute(statement)}
    return {
        uuid: nodes.get((server.columns["host"], server.columns["node"]), "")
        for uuid, server in going.items()
    }


def _done(
    change: RemovalChange,
    kind: Announced,
    uuid: str,
    providers: dict[str, str],
    reason: str = "",
) -> RemovalOutcome:
    return RemovalOutcome(
        uuid, change, reason, providers.get(uuid, ""), ServerAnnouncement(kind, uuid)
    )
