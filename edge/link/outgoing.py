"""What a call is to send, as the iterator that gRPC consumes in a thread of its own."""

import queue
from typing import Generic, TypeVar

Message = TypeVar("Message")


class Outgoing(Generic[Message]):
    """A queue of messages; gRPC takes them one by one as the connection accepts them."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

    def put(self, message: Message) -> None:
        """Queue a message; never blocks."""
        self._queue.put(message)

    def close(self) -> None:
        """Close this side of the call after what is queued."""
        self._queue.put(None)

    def __iter__(self) -> "Outgoing[Message]":
        return self

    def __next__(self) -> Message:
        message = self._queue.get()
        if message is None:
            raise StopIteration
        return message
