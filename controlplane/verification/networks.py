"""A server's cached interfaces against its virtual network adapters. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controlplane.domain.records import NicRecord
from controlplane.store.nova.readers import Row
from controlplane.verification.findings import Findings, Place, Subject

_CELL = Place.NOVA_CELL
_FIELD = "instance_info_caches.network_info"


def compare_networks(
    findings: Findings, subject: Subject, nics: Sequence[NicRecord], caches: list[Row]
) -> None:
    """Compare every adapter. Interfaces that Nova made from Neutron's ports are Neutron's."""
    findings.compare(subject, _CELL, "instance_info_caches rows", 1, len(caches))
    if not caches:
        return
    try:
        interfaces = [_Interface(one) for one in json.loads(caches[0]["network_info"])]
    except (ValueError, KeyError, TypeError):
        text = str(caches[0]["network_info"])[:100]
        findings.differ(subject, _CELL, _FIELD, "interfaces", text)
        return
    foreign = {one.address for one in interfaces if not one.ours}
    wanted = {nic.mac_address: nic for nic in nics if nic.mac_address not in foreign}
    found = {one.address: one for one in interfaces if one.ours}
    for address, nic in wanted.items():
        if address in found:
            _compare(findings, subject, nic, found[address])
        else:
            findings.differ(subject, _CELL, f"{_FIELD} {address}", nic.network_label, "")
    for address, interface in found.items():
        if address not in wanted:
            name = f"{_FIELD} {address}"
            findings.differ(subject, _CELL, name, "", interface.label or "an interface")


class _Interface:
    """One interface of the cache (nova/network/model.py:VIF)."""

    def __init__(self, vif: Mapping[str, Any]) -> None:
        """Read it. Raises ``KeyError``, ``TypeError`` or ``ValueError`` when it is none."""
        self.address: str = vif["address"]
        self.active: bool = vif["active"]
        self.network: str = vif["network"]["id"]
        self.label: str = vif["network"]["label"]
        self.addresses = sorted(_addresses(vif["network"]["subnets"]))
        self.ours = vif["id"] is None
        """Stands for an adapter of vCenter's; the others for Neutron's ports."""


def _addresses(subnets: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    return (str(address["address"]) for subnet in subnets for address in subnet["ips"])


def _compare(findings: Findings, subject: Subject, nic: NicRecord, found: _Interface) -> None:
    name = f"{_FIELD} {nic.mac_address}"
    findings.compare(subject, _CELL, f"{name} network", nic.network_uuid, found.network)
    findings.compare(subject, _CELL, f"{name} label", nic.network_label, found.label)
    findings.compare(subject, _CELL, f"{name} active", nic.active, found.active)
    findings.compare(subject, _CELL, f"{name} addresses", sorted(nic.addresses), found.addresses)
