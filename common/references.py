"""Managed object references as text: ``type:value``, unique in one vCenter."""

import sys

from vsphere_gateway.v1 import inventory_pb2

Key = str
"""``type:value`` of a managed object reference, for example ``VirtualMachine:vm-42``."""

VCENTER_KEY: Key = "ServiceInstance:ServiceInstance"


def make_key(type_name: str, value: str) -> Key:
    """Build the key of a reference; equal keys share their memory."""
    return sys.intern(f"{type_name}:{value}")


def key_of(reference: inventory_pb2.ObjectReference) -> Key:
    """Build the key of a reference; the empty string when it is unset."""
    return make_key(reference.type, reference.value) if reference.value else ""


def reference_of(key: Key) -> inventory_pb2.ObjectReference:
    """Rebuild the reference that ``key_of`` made a key of."""
    type_name, _, value = key.partition(":")
    return inventory_pb2.ObjectReference(type=type_name, value=value)


def type_name_of(key: Key) -> str:
    """Read the vSphere type in a key."""
    return key.partition(":")[0]


def moref_of(key: Key) -> str:
    """Read the managed object identifier in a key, for example ``vm-42``."""
    return key.partition(":")[2]


def machine_key(moref: str) -> Key:
    """Build the key of a virtual machine or template."""
    return make_key("VirtualMachine", moref)


def is_virtual_machine(key: Key) -> bool:
    """Whether the key is a virtual machine's or a template's."""
    return key.startswith("VirtualMachine:")
