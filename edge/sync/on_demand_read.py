"""On-demand reads: all of vCenter, read afresh because the control plane asked.

Nothing of what the edge remembers is used, nor changed: that is what the answer is compared with.
The protocol's name for it is `Audit`.
"""

import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Protocol

from google.rpc import code_pb2, status_pb2

from common.content_hash import content_hash, content_of
from common.log_fields import fields
from edge.errors import SecretUnreadableError
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.faults import VCenterError
from vsphere_gateway.v1 import inventory_pb2, link_pb2

BATCH_OBJECTS = 200
BATCH_BYTES = 512 << 10

log = logging.getLogger(__name__)


class FullReader(Protocol):
    """Reads everything once (``edge.vcenter.collector.collector.VCenterCollector``)."""

    def read_once(self, stop: threading.Event) -> Iterator[CollectorUpdate]:
        """Yield the pages of a full read. Raises ``VCenterError``."""


class NewReader(Protocol):
    """Makes a reader that remembers nothing."""

    def __call__(self) -> FullReader:
        """Make one; the session that it reads through is shared."""


class OnDemandReads:
    """Answers on-demand reads, one at a time (``edge.interfaces.OnDemandReadSource``)."""

    def __init__(self, new_reader: NewReader) -> None:
        """``new_reader`` makes the reader of one answer."""
        self._new_reader = new_reader

    def messages(self, audit_id: str, stop: threading.Event) -> Iterator[link_pb2.AuditRequest]:
        """Yield everything that answers one request; without an end once ``stop`` is set."""
        yield link_pb2.AuditRequest(open=link_pb2.AuditOpen(audit_id=audit_id))
        count, complete = 0, False
        try:
            for update in self._new_reader().read_once(stop):
                for batch in _batches(update):
                    count += len(batch.objects)
                    yield link_pb2.AuditRequest(batch=batch)
                complete = update.full_read and update.complete
        except (VCenterError, SecretUnreadableError) as error:
            log.warning("on-demand read failed", extra=fields(reason=error))
            failure = status_pb2.Status(code=code_pb2.UNAVAILABLE, message=str(error))
            yield link_pb2.AuditRequest(failure=failure)
            return
        if complete:
            log.info("on-demand read answered", extra=fields(objects=count))
            yield link_pb2.AuditRequest(end=link_pb2.AuditEnd(object_count=count))


def _batches(update: CollectorUpdate) -> Iterator[link_pb2.AuditBatch]:
    """Cut an update into messages of a bounded size."""
    batch, size = link_pb2.AuditBatch(), 0
    for state, length in _stamped(update.objects):
        if len(batch.objects) == BATCH_OBJECTS or (size and size + length > BATCH_BYTES):
            yield batch
            batch, size = link_pb2.AuditBatch(), 0
        batch.objects.append(state)
        size += length
    for start in range(0, len(update.unreadable), BATCH_OBJECTS):
        if len(batch.objects) or batch.unreadable_objects:
            yield batch
        batch = link_pb2.AuditBatch(
            unreadable_objects=update.unreadable[start : start + BATCH_OBJECTS]
        )
    if len(batch.objects) or batch.unreadable_objects:
        yield batch


def _stamped(
    objects: Iterable[inventory_pb2.InventoryObject],
) -> Iterator[tuple[inventory_pb2.InventoryObject, int]]:
    """Yield objects with their content hash, and their size in bytes."""
    for state in objects:
        content = content_of(state)
        state.content_hash = content_hash(content)
        yield state, len(content)
