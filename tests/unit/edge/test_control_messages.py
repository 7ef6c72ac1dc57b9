"""What goes up on a `Control` call: the hello first, and nothing of an earlier call."""

import threading

from edge.control_messages import CallMessages, ControlMessages
from tests.support.control_call import welcomed_call
from vsphere_gateway.v1 import link_pb2, operations_pb2

PATIENCE = 10.0


def progress(percent: int) -> operations_pb2.OperationProgress:
    return operations_pb2.OperationProgress(operation_id="one", percent=percent)


def result(operation_id: str = "one") -> operations_pb2.OperationResult:
    return operations_pb2.OperationResult(operation_id=operation_id)


def kinds(sent: CallMessages) -> list[str | None]:
    found = []
    while (message := sent.next_message(0)) is not None:
        found.append(message.WhichOneof("message"))
    return found


def test_hello_is_first_and_operations_wait_for_the_welcome() -> None:
    messages = ControlMessages()
    messages.heartbeat(link_pb2.Heartbeat(sequence=1))
    sent = messages.open(link_pb2.Hello())
    messages.result(result())
    messages.heartbeat(link_pb2.Heartbeat(sequence=1))
    assert kinds(sent) == ["hello", "heartbeat"]
    messages.replay([result()])
    assert kinds(sent) == ["operation_result"]


def test_progress_replaces_progress_that_waits_and_a_result_replaces_both() -> None:
    messages = ControlMessages()
    sent = welcomed_call(messages)
    messages.accepted("one")
    messages.progress(progress(10))
    messages.progress(progress(20))
    assert kinds(sent) == ["operation_accepted", "operation_progress"]
    messages.progress(progress(30))
    messages.result(result())
    assert kinds(sent) == ["operation_result"]


def test_heartbeats_of_one_call_do_not_replace_each_other() -> None:
    messages = ControlMessages()
    sent = welcomed_call(messages)
    for sequence in (1, 2):
        messages.heartbeat(link_pb2.Heartbeat(sequence=sequence))
    assert kinds(sent) == ["heartbeat", "heartbeat"]


def test_a_new_call_ends_the_one_before_and_takes_nothing_from_it() -> None:
    messages = ControlMessages()
    first = welcomed_call(messages)
    ended = threading.Event()
    threading.Thread(target=lambda: (list(first), ended.set()), daemon=True).start()
    second = welcomed_call(messages)
    assert ended.wait(PATIENCE)
    messages.result(result())
    assert kinds(first) == []
    assert kinds(second) == ["operation_result"]


def test_a_closed_call_sends_what_is_queued_and_no_more() -> None:
    messages = ControlMessages()
    sent = welcomed_call(messages)
    messages.result(result())
    messages.close()
    messages.result(result("two"))
    assert [each.operation_result.operation_id for each in sent] == ["one"]
