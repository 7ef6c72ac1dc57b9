"""Answers of vCenter, made of pyVmomi's objects by pyVmomi's own serialiser."""

from collections.abc import Mapping
from typing import Any

from pyVmomi import SoapAdapter, VmomiSupport, vmodl

VERSION = VmomiSupport.newestVersions.GetName("vim")


def soap(body: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope'
        ' xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        f"{body}</soapenv:Body></soapenv:Envelope>"
    ).encode()


def read_answer(result: Any) -> bytes:
    """Return RetrievePropertiesEx's answer with a result as pyVmomi itself writes it."""
    info = VmomiSupport.Object(name="returnval", type=type(result), version=VERSION, flags=0)
    text = SoapAdapter.SerializeToStr(result, info, VERSION)
    response = f'<RetrievePropertiesExResponse xmlns="urn:vim25">{text}'
    return soap(f"{response}</RetrievePropertiesExResponse>")


def content(managed_object: Any, values: Mapping[str, Any]) -> bytes:
    properties = [
        vmodl.DynamicProperty(name=path, val=value)
        for path, value in values.items()
        if value is not None
    ]
    one = vmodl.query.PropertyCollector.ObjectContent(obj=managed_object, propSet=properties)
    return read_answer(vmodl.query.PropertyCollector.RetrieveResult(objects=[one]))


def array(kind: str, items: list[Any]) -> Any:
    return VmomiSupport.GetVmodlType(kind + "[]")(items)


def update_answer(*objects: str, version: str = "7", truncated: bool = False) -> bytes:
    return soap(
        '<WaitForUpdatesExResponse xmlns="urn:vim25"><returnval>'
        f"<version>{version}</version><filterSet><filter type='PropertyFilter'>f</filter>"
        f"{''.join(objects)}</filterSet>"
        f"<truncated>{'true' if truncated else 'false'}</truncated>"
        "</returnval></WaitForUpdatesExResponse>"
    )


def changed(*changes: str, kind: str = "modify", key: str = "VirtualMachine:vm-7") -> str:
    """Return what an update says of one object; ``kind`` is enter, modify or leave."""
    type_name, _, value = key.partition(":")
    return (
        f'<objectSet><kind>{kind}</kind><obj type="{type_name}">{value}</obj>'
        f"{''.join(changes)}</objectSet>"
    )


def change(name: str, value: str = "", operation: str = "assign") -> str:
    return (
        f"<changeSet><name>{name}</name><op>{operation}</op>"
        + (f'<val xsi:type="xsd:string">{value}</val>' if value else "")
        + "</changeSet>"
    )
