"""The messages that wait for the control stream: bounded, because an operation has few."""

import collections
import threading

from vsphere_gateway.v1 import link_pb2, operations_pb2


class OutgoingMessages:
    """A queue in which the progress of an operation replaces what waits of it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: collections.OrderedDict[tuple[str, str], link_pb2.ControlRequest] = (
            collections.OrderedDict()
        )

    def accepted(self, operation_id: str) -> None:
        """Queue that an operation was taken on."""
        message = operations_pb2.OperationAccepted(operation_id=operation_id)
        self._put("accepted", operation_id, link_pb2.ControlRequest(operation_accepted=message))

    def progress(self, progress: operations_pb2.OperationProgress) -> None:
        """Queue how far an operation is."""
        request = link_pb2.ControlRequest(operation_progress=progress)
        self._put("progress", progress.operation_id, request)

    def result(self, result: operations_pb2.OperationResult) -> None:
        """Queue a result; progress that still waits is of no interest any more."""
        with self._condition:
            self._waiting.pop(("progress", result.operation_id), None)
        request = link_pb2.ControlRequest(operation_result=result)
        self._put("result", result.operation_id, request)

    def restart(self, results: list[operations_pb2.OperationResult]) -> None:
        """Begin a new stream: what waited for the old one goes, the results are queued."""
        with self._condition:
            self._waiting.clear()
        for result in results:
            self.result(result)

    def next(self, timeout: float) -> link_pb2.ControlRequest | None:
        """Return the oldest message; None after ``timeout`` seconds."""
        with self._condition:
            if not self._condition.wait_for(lambda: bool(self._waiting), timeout):
                return None
            return self._waiting.popitem(last=False)[1]

    def _put(self, kind: str, operation_id: str, request: link_pb2.ControlRequest) -> None:
        with self._condition:
            self._waiting[(kind, operation_id)] = request
            self._condition.notify()
