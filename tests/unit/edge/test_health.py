"""What heartbeats and the status line say of the edge itself."""

from edge.health import Health
from edge.scrub import remember_secret
from edge.sync.inventory import Inventory
from edge.sync.outbox import OutboxLimits


def test_a_thread_that_is_down_is_in_the_heartbeat_at_once_and_without_secrets() -> None:
    remember_secret("hunter4-hunter4")
    health = Health(Inventory(OutboxLimits()))
    assert not health.heartbeat().failing_threads
    version = health.vcenter().version
    health.threads.failed("inventory-call", ValueError("no hunter4-hunter4"))
    assert health.wait_for_change(version, 0), "the next heartbeat would wait for its time"
    (failing,) = health.heartbeat().failing_threads
    assert failing == "thread inventory-call is down: ValueError: no ***"
    health.threads.recovered("inventory-call")
    assert not health.heartbeat().failing_threads
