"""What the executor remembers: each operation from its acceptance to its acknowledgement."""

import collections
import dataclasses
from collections.abc import Iterator

from edge.vcenter.operations.control import OperationControl
from vsphere_gateway.v1 import operations_pb2


@dataclasses.dataclass(slots=True)
class OperationRecord:
    """One operation."""

    operation: operations_pb2.Operation
    control: OperationControl
    accepted_at: float
    """By the monotonic clock, in seconds."""
    progress: operations_pb2.OperationProgress
    result: operations_pb2.OperationResult | None = None
    acknowledged: bool = False
    identifiers: set[str] = dataclasses.field(default_factory=set)
    """Every operation_id under which the key came."""


class OperationRecords:
    """Operations by idempotency key. Not safe for threads: the executor holds its lock.

    A result stays until it is acknowledged, and then as long as it is among the latest
    ``remembered`` ones, so that a repeated key still finds it.
    """

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self._by_key: dict[str, OperationRecord] = {}
        self._key_of: dict[str, str] = {}
        self._acknowledged: collections.OrderedDict[str, None] = collections.OrderedDict()

    def add(self, record: OperationRecord) -> None:
        """Remember an operation."""
        self._by_key[key_of(record.operation)] = record
        self._name(record, record.operation.operation_id)

    def find(self, operation: operations_pb2.Operation) -> OperationRecord | None:
        """What is known under the operation's key."""
        return self._by_key.get(key_of(operation))

    def get(self, operation_id: str) -> OperationRecord | None:
        """Find an operation by its identifier."""
        return self._by_key.get(self._key_of.get(operation_id, ""))

    def acknowledge(self, record: OperationRecord) -> None:
        """The control plane has stored the result; drop the oldest such beyond the bound."""
        record.acknowledged = True
        self._acknowledged[key_of(record.operation)] = None
        while len(self._acknowledged) > self._remembered:
            key, _ = self._acknowledged.popitem(last=False)
            forgotten = self._by_key.pop(key)
            for identifier in forgotten.identifiers:
                del self._key_of[identifier]

    def repeat(self, record: OperationRecord, operation_id: str) -> None:
        """The operation came again; its result has to be acknowledged again."""
        self._name(record, operation_id)
        record.acknowledged = False
        self._acknowledged.pop(key_of(record.operation), None)

    def unsettled(self) -> Iterator[OperationRecord]:
        """What runs or is not acknowledged, oldest first."""
        return (record for record in self._by_key.values() if not record.acknowledged)

    def _name(self, record: OperationRecord, operation_id: str) -> None:
        record.identifiers.add(operation_id)
        self._key_of[operation_id] = key_of(record.operation)

    def __len__(self) -> int:
        """How many run or are not acknowledged."""
        return len(self._by_key) - len(self._acknowledged)


def key_of(operation: operations_pb2.Operation) -> str:
    """The idempotency key; the operation's identifier where there is none."""
    return operation.idempotency_key or operation.operation_id
