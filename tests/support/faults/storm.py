"""A storm of changes in vCenter: which ones is left to a seed, how fast is kept to."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pyVmomi import vim

from edge.vcenter.client import faults
from tests.support.faults.vcenter import CLUSTERS, FIRST, VCenter

THREADS = 4
JOIN_SECONDS = 120
POWER = ("PowerOnVM_Task", "PowerOffVM_Task", "SuspendVM_Task")


class Storm:
    """So many changes, so many a second, spread over all machines but the first.

    Each is one vSphere task, begun and not waited for. One that vCenter refuses, such as powering
    on what is on, is a change too few and nothing else: what is true afterwards only vCenter says.
    """

    def __init__(self, vcenter: VCenter, chance: random.Random) -> None:
        self._changes = 0
        self._rate = 1.0
        self._errors: list[Exception] = []
        self._done = 0
        self._progress = threading.Condition()
        named = vcenter.named(vim.VirtualMachine)
        original = named.pop(FIRST)
        machines = [named[name] for name in sorted(named)]
        self._threads = []
        for number in range(THREADS):
            own = random.Random(chance.random())
            blown = _Blown(vcenter, original, machines[number::THREADS], own)
            self._threads.append(threading.Thread(target=self._blow, args=(number, blown)))
        self._began = 0.0

    def start(self, changes: int, rate: float) -> None:
        """Begin; ``rate`` is in changes a second."""
        self._changes, self._rate = changes, rate
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def wait_for(self, fraction: float) -> None:
        """Wait until a part of the changes is made."""
        with self._progress:
            wanted = self._changes * fraction
            done = self._progress.wait_for(
                lambda: self._done >= wanted or self._errors, JOIN_SECONDS
            )
        assert done, f"{self._done} of {self._changes} changes after {JOIN_SECONDS} s"

    def finish(self) -> float:
        """Wait for the end; returns how many changes a second there have been."""
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        if self._errors:
            raise self._errors[0]
        assert self._done == self._changes
        return self._changes / (time.monotonic() - self._began)

    def _blow(self, thread: int, blown: "_Blown") -> None:
        try:
            for number in range(thread, self._changes, THREADS):
                time.sleep(max(0.0, self._began + number / self._rate - time.monotonic()))
                blown.change(number)
                with self._progress:
                    self._done += 1
                    self._progress.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again by finish()
            with self._progress:
                self._errors.append(error)
                self._progress.notify_all()


class _Blown:
    """The machines of one thread, and its chance: so their order is the seed's alone."""

    def __init__(
        self, vcenter: VCenter, original: Any, machines: list[Any], chance: random.Random
    ) -> None:
        self._vcenter = vcenter
        self._original = original
        self._machines = machines
        self._fewest = len(machines) // 2
        self._clones: list[Any] = []
        self._chance = chance

    def change(self, number: int) -> None:
        """Begin one change; ``number`` is in the names that it gives."""
        kinds: Sequence[Callable[[int], object]] = (
            *[self._power] * 8,
            *[self._resize] * 6,
            *[self._rename] * 4,
            self._create,
            self._destroy,
        )
        try:
            self._chance.choice(kinds)(number)
        except faults.ManagedObjectNotFoundError:
            return  # a task before this one has destroyed it

    def _power(self, _: int) -> None:
        getattr(self._chance.choice(self._machines), self._chance.choice(POWER))()

    def _resize(self, _: int) -> None:
        cpus, memory_mb = self._chance.randint(1, 8), 256 * self._chance.randint(1, 8)
        self._vcenter.resize(self._chance.choice(self._machines), cpus, memory_mb)

    def _rename(self, number: int) -> None:
        self._chance.choice(self._machines).Rename_Task(f"renamed-{number}")

    def _create(self, number: int) -> None:
        cluster = self._chance.choice(CLUSTERS)
        self._clones.append(self._vcenter.clone(self._original, f"new-{number}", cluster))

    def _destroy(self, number: int) -> None:
        """Destroy one, and let what was made before take part from now on."""
        self._machines += filter(None, map(self._vcenter.result, self._clones))
        self._clones.clear()
        if len(self._machines) <= self._fewest:
            self._create(number)
            return
        machine = self._machines.pop(self._chance.randrange(len(self._machines)))
        machine.PowerOffVM_Task()
        machine.Destroy_Task()
