"""What waits to be sent on the `Control` call: the link's heartbeats and the executor's messages.

Bounded, because an operation has few messages and gRPC takes them one by one as the connection
accepts them.
"""

import collections
import threading
from collections.abc import Iterator

from vsphere_gateway.v1 import link_pb2, operations_pb2


class ControlMessages:
    """One queue for one `Control` call after another. Any thread may call it.

    What a broken call loses is sent again: a heartbeat is due soon, and the executor replays its
    results to the next call. Progress is best effort.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: collections.OrderedDict[tuple[str, str], link_pb2.ControlRequest] = (
            collections.OrderedDict()
        )
        self._call = 0
        self._welcomed = False
        self._closed = True

    # What the link calls.

    def open(self, hello: link_pb2.Hello) -> "CallMessages":
        """Begin a call: return what it is to send, the hello first; earlier calls send no more."""
        with self._condition:
            self._call += 1
            self._waiting.clear()
            self._welcomed = self._closed = False
            self._put("hello", "", link_pb2.ControlRequest(hello=hello))
            return CallMessages(self, self._call)

    def heartbeat(self, heartbeat: link_pb2.Heartbeat) -> None:
        """Queue a heartbeat."""
        with self._condition:
            request = link_pb2.ControlRequest(heartbeat=heartbeat)
            self._put("heartbeat", str(heartbeat.sequence), request)

    def close(self) -> None:
        """End the call's messages after what is queued."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    # What the executor calls.

    def replay(self, results: list[operations_pb2.OperationResult]) -> None:
        """The call is welcome: from now on it carries operations, these results first."""
        with self._condition:
            self._welcomed = True
            for result in results:
                self.result(result)

    def accepted(self, operation_id: str) -> None:
        """Queue that an operation was accepted."""
        message = operations_pb2.OperationAccepted(operation_id=operation_id)
        request = link_pb2.ControlRequest(operation_accepted=message)
        self._operation("accepted", operation_id, request)

    def progress(self, progress: operations_pb2.OperationProgress) -> None:
        """Queue how far an operation is, in the place of progress that still waits."""
        request = link_pb2.ControlRequest(operation_progress=progress)
        self._operation("progress", progress.operation_id, request)

    def result(self, result: operations_pb2.OperationResult) -> None:
        """Queue a result, in the place of progress that still waits."""
        with self._condition:
            self._waiting.pop(("progress", result.operation_id), None)
            request = link_pb2.ControlRequest(operation_result=result)
            self._operation("result", result.operation_id, request)

    def _operation(self, kind: str, operation_id: str, request: link_pb2.ControlRequest) -> None:
        with self._condition:
            if self._welcomed:
                self._put(kind, operation_id, request)

    def _put(self, kind: str, identifier: str, request: link_pb2.ControlRequest) -> None:
        if not self._closed:
            self._waiting[(kind, identifier)] = request
            self._condition.notify_all()

    def next(self, call: int, timeout: float | None) -> link_pb2.ControlRequest | None:
        """Take the oldest message of a call; see ``CallMessages.next_message``."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._waiting or self._closed or call != self._call, timeout
            )
            if call != self._call or not self._waiting:
                return None
            return self._waiting.popitem(last=False)[1]


class CallMessages(Iterator[link_pb2.ControlRequest]):
    """What one call sends, as the iterator that gRPC consumes in a thread of its own."""

    def __init__(self, messages: ControlMessages, call: int) -> None:
        self._messages = messages
        self._call = call

    def next_message(self, timeout: float | None = None) -> link_pb2.ControlRequest | None:
        """Take the oldest message; None when there is no more, or after ``timeout`` seconds."""
        return self._messages.next(self._call, timeout)

    def __next__(self) -> link_pb2.ControlRequest:
        message = self.next_message()
        if message is None:
            raise StopIteration
        return message
