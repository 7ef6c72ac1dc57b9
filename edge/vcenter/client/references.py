"""Managed object references as text: ``type:value``, unique in one vCenter."""

import sys

from vsphere_gateway.v1 import inventory_pb2

Key = str
"""``type:value`` of a managed object reference, for example ``VirtualMachine:vm-42``."""

VCENTER_KEY: Key = "ServiceInstance:ServiceInstance"


def make_key(type_name: str, value: str) -> Key:
    """Return the key of a reference; equal keys share their memory."""
    return sys.intern(f"{type_name}:{value}")


def key_of(reference: inventory_pb2.ObjectReference) -> Key:
    """Return the key of a reference, the empty string when it is unset."""
    return make_key(reference.type, reference.value) if reference.value else ""


def reference_of(key: Key) -> inventory_pb2.ObjectReference:
    """Return the reference of a key."""
    type_name, _, value = key.partition(":")
    return inventory_pb2.ObjectReference(type=type_name, value=value)


def is_virtual_machine(key: Key) -> bool:
    """Tell whether the key is a virtual machine's or a template's."""
    return key.startswith("VirtualMachine:")


def type_name_of(key: Key) -> str:
    """Return the vSphere type in a key."""
    return key.partition(":")[0]
