"""The virtual machines and templates of one vCenter, as the collector remembers them.

Of a managed one the last state is kept, serialised, so that a change of one property makes a whole
object again; of any other only where it is, to notice when it comes under management.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from common.references import Key, make_key
from edge.vcenter.client import values
from edge.vcenter.client.answers import Element, ObjectProperties
from edge.vcenter.client.property_specs import CHANGE_VERSION, VIRTUAL_MACHINE
from edge.vcenter.collector.configuration_cache import CachedConfiguration
from edge.vcenter.collector.parser import UnreadablePropertyError, apply_full_read, apply_properties
from vsphere_gateway.v1 import inventory_pb2

_TEMPLATE: Final = "config.template"
_NOT_RETURNED: Final = (
    "vCenter lists it and does not let the edge's user read it; give the user System.Read on it"
)


@dataclasses.dataclass(slots=True)
class Machine:
    """What is remembered of one virtual machine."""

    host: Key = ""
    pool: Key = ""
    folder: Key = ""
    datastores: tuple[Key, ...] = ()
    is_template: bool = False
    change_version: str = ""
    """``config.changeVersion`` as last announced; empty while vCenter is still making it."""
    state: bytes = b""
    """Its own properties as ``VirtualMachine``; empty while it is not managed."""
    detailed: bool = False
    """``state`` has the configuration too, as of ``change_version``."""
    devices_due: bool = False
    """Its power changed, and with it what is connected: no ``change_version`` tells that."""
    problem: str = ""
    """Reason it cannot be read, for a person; empty when it can."""
    managed: bool = False
    """It belongs to a managed cluster, or is a template on a managed datastore."""
    cluster: Key = ""
    """The compute resource that it was last found in."""
    counted_in: Key = ""
    """The folder that is shown because of it, empty while none is."""
    reported: int = 0
    """Hash of what was last reported, 0 if nothing is."""
    reported_problem: str = ""
    """The problem that was last reported."""

    def machine(self) -> inventory_pb2.VirtualMachine:
        """Return the state as a message of the caller's own."""
        return inventory_pb2.VirtualMachine.FromString(self.state)

    def forget_state(self) -> None:
        """Keep only where it is."""
        self.state, self.detailed, self.problem = b"", False, ""
        self.devices_due = False
        self.reported, self.reported_problem = 0, ""


class MachineRegister:
    """All virtual machines and templates that vCenter shows, by key."""

    def __init__(self) -> None:
        self._machines: dict[Key, Machine] = {}

    def __len__(self) -> int:
        return len(self._machines)

    def __contains__(self, key: Key) -> bool:
        return key in self._machines

    def items(self) -> Iterator[tuple[Key, Machine]]:
        """Yield all."""
        yield from self._machines.items()

    def get(self, key: Key) -> Machine | None:
        """Return what is remembered of one."""
        return self._machines.get(key)

    def remove(self, key: Key) -> Machine | None:
        """Forget one, and return what was remembered."""
        return self._machines.pop(key, None)

    def place(self, found: ObjectProperties) -> None:
        """Take where one is, before anything else is known of it."""
        _place(self._machines.setdefault(found.key, Machine()), found.values)

    def recall(self, found: ObjectProperties, cached: CachedConfiguration) -> bool:
        """Take what is watched of one, and its configuration from the cache.

        Tells whether that was possible: its configuration must be the same and its power too.
        """
        machine = self._machines.setdefault(found.key, Machine())
        _place(machine, found.values)
        return _take_up(machine, found, cached, any_power=False)

    def renew(self, found: ObjectProperties, cached: CachedConfiguration) -> Machine | None:
        """Take the same and return it, whatever its power; None if that was not possible.

        Which of its devices are connected is then as it was before its power changed.
        """
        machine = self._machines.setdefault(found.key, Machine())
        _place(machine, found.values)
        return machine if _take_up(machine, found, cached, any_power=True) else None

    def configuration(self, key: Key) -> CachedConfiguration | None:
        """Return the configuration of a managed one; None unless it is known and complete."""
        machine = self._machines.get(key)
        if machine is None or not machine.managed or machine.problem:
            return None
        if not machine.detailed or not machine.change_version:
            return None
        return CachedConfiguration(machine.change_version, machine.state)

    def cacheable(self) -> Iterator[tuple[Key, CachedConfiguration]]:
        """Yield the configurations that are known and complete, and what is connected too."""
        for key, machine in self._machines.items():
            known = None if machine.devices_due else self.configuration(key)
            if known is not None:
                yield key, known

    def announce(self, found: ObjectProperties) -> bool:
        """Take what the watch says: everything watched of a new one, changes of a known one.

        Tells whether that is news. A problem stays until a read shows that it has gone.
        """
        machine = self._machines.get(found.key)
        if machine is None:
            machine = self._machines[found.key] = Machine()
            _place(machine, found.values)
            self._merge(found.key, machine, found.values)
            return True
        before = dataclasses.replace(machine)
        _place(machine, found.values)
        if machine.state:
            self._merge(found.key, machine, found.values)
        return machine != before

    def read(self, found: ObjectProperties, asked: Sequence[str]) -> Machine:
        """Take what a read of the paths ``asked`` returned, the configuration among them."""
        machine = self._machines.setdefault(found.key, Machine())
        _place(machine, found.values)
        body = machine.machine()
        try:
            apply_full_read(found.key, body, found.values, asked, found.missing)
        except UnreadablePropertyError as error:
            machine.problem = str(error)
        else:
            machine.problem = _incomplete(body, found)
        machine.state = body.SerializeToString()
        machine.detailed, machine.devices_due = True, False
        return machine

    def not_returned(self, key: Key) -> None:
        """Note that one was asked for and is not in the answer."""
        machine = self._machines.get(key)
        if machine is not None and not machine.problem:
            machine.problem = _NOT_RETURNED

    def differs(self, found: ObjectProperties, asked: Sequence[str]) -> bool:
        """Tell whether what a read of ``asked`` returned differs from what is remembered.

        So does, by definition, what could not be read the last time.
        """
        machine = self._machines.get(found.key)
        if machine is None or machine.problem or not machine.change_version:
            return True
        placed = dataclasses.replace(machine)
        _place(placed, found.values)
        if placed != machine:
            return True
        if not machine.state:
            return False
        before, after = machine.machine(), machine.machine()
        try:
            apply_full_read(found.key, after, found.values, asked, found.missing)
        except UnreadablePropertyError:
            return True
        return bool(before != after)

    def _merge(self, key: Key, machine: Machine, properties: Mapping[str, Element | None]) -> None:
        body = machine.machine()
        power_state = body.power_state
        try:
            apply_properties(key, body, properties)
        except UnreadablePropertyError as error:
            machine.problem = str(error)
        machine.state = body.SerializeToString()
        if body.power_state != power_state:
            machine.devices_due = True


def _take_up(
    machine: Machine, found: ObjectProperties, cached: CachedConfiguration, *, any_power: bool
) -> bool:
    """Make a state of what is watched and a known configuration; False if that has changed."""
    if machine.change_version != cached.change_version:
        return False
    try:
        body = inventory_pb2.VirtualMachine.FromString(cached.state)
        power_state = body.power_state
        apply_full_read(found.key, body, found.values, VIRTUAL_MACHINE.watched, found.missing)
    except (DecodeError, UnreadablePropertyError):
        return False
    if body.power_state != power_state and not any_power:
        return False
    machine.state, machine.detailed = body.SerializeToString(), True
    return True


def _place(machine: Machine, properties: Mapping[str, Element | None]) -> None:
    """Take over where the virtual machine is and what it is."""
    if "runtime.host" in properties:
        machine.host = _key(properties["runtime.host"])
    if "resourcePool" in properties:
        machine.pool = _key(properties["resourcePool"])
    if "parent" in properties:
        machine.folder = _key(properties["parent"])
    if "datastore" in properties:
        datastores = properties["datastore"]
        machine.datastores = () if datastores is None else tuple(map(_key, datastores))
    template = properties.get(_TEMPLATE)
    if template is not None:
        machine.is_template = values.text(template) == "true"
    version = properties.get(CHANGE_VERSION)
    if version is not None and version.text != machine.change_version:
        machine.change_version = version.text or ""
        machine.detailed = False


def _key(element: Element | None) -> Key:
    if element is None or not element.text:
        return ""
    return make_key(sys.intern(element.get("type", "")), element.text)


def _incomplete(body: inventory_pb2.VirtualMachine, found: ObjectProperties) -> str:
    if body.instance_uuid:
        return ""
    hidden = [f"{path} ({fault})" for path, fault in sorted(found.missing.items())]
    if hidden:
        return "vCenter does not show " + ", ".join(hidden[:3])
    return "vCenter shows no configuration of it (config.instanceUuid has no value)"
