"""One server's rows in Nova against what its virtual machine says. Pure.

docs/concepts/fields.md says whose a field is: what OpenStack owns is not compared.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.domain.records import Origin, Policy, Power, ServerRecord
from controlplane.store.nova.readers import Row, ServerRows
from controlplane.verification.findings import Findings, Place, Subject
from controlplane.verification.networks import compare_networks

OUR_METADATA = "vsphere:"
OUR_RESERVATION = "vsg-"
FIRST_OWN_FLAVOR = 2**30
"""Flavors with this id or a greater one stand for hardware; smaller ones are in Nova's table."""
VM_STATES = {Power.RUNNING: "active", Power.SHUTDOWN: "stopped", Power.SUSPENDED: "suspended"}
POWERED = frozenset(VM_STATES.values())
SETTLED = POWERED | {"error", "paused"}
"""In the other states (building, resized, shelved, ...) the hardware is Nova's matter."""
SIZES = ("vcpus", "memory_mb", "root_gb", "ephemeral_gb")
_CELL = Place.NOVA_CELL
_API = Place.NOVA_API


@dataclass(frozen=True, slots=True)
class ExpectedServer:
    """What Nova should say of one virtual machine."""

    record: ServerRecord
    origin: Origin
    compute_id: int | None
    """`compute_nodes.id`; None while there is no such node."""
    cell_id: int
    image_ids: frozenset[str]
    """Images that say that a template is not known."""


def compare_server(
    findings: Findings, subject: Subject, expected: ExpectedServer, rows: ServerRows
) -> None:
    """Compare a server that is not deleted and that Nova does not work on."""
    instance = rows.instance
    adopted = expected.origin is Origin.ADOPTED
    _compare_identity(findings, subject, expected, instance)
    _compare_power(findings, subject, expected.record, instance)
    compare_networks(findings, subject, expected.record.nics, rows.info_caches)
    _compare_metadata(findings, subject, expected.record.metadata, rows.metadata)
    _compare_mapping(findings, subject, expected, rows.mappings)
    flavor = _flavor(findings, subject, rows.extra)
    if instance["vm_state"] not in SETTLED:
        findings.excuse(subject, f"its hardware is Nova's while it is {instance['vm_state']}")
    else:
        _compare_place(findings, subject, expected, instance)
        if flavor is not None:
            _compare_flavor(findings, subject, expected, flavor, instance)
        if adopted:
            _compare_devices(findings, subject, expected.record, rows.devices)
    _compare_request_spec(findings, subject, expected, flavor, rows)
    if adopted:
        _compare_image(findings, subject, expected, rows)


def origin_of(instance: Row) -> Origin:
    """Whether a server was adopted or created, by the mark in its row."""
    reservation = instance["reservation_id"] or ""
    return Origin.ADOPTED if reservation.startswith(OUR_RESERVATION) else Origin.CREATED


def _compare_identity(
    findings: Findings, subject: Subject, expected: ExpectedServer, instance: Row
) -> None:
    record = expected.record
    wanted = {"project_id": record.project_id, "user_id": record.user_id}
    shown = instance["display_name"] or ""
    if not (record.uuid in record.display_name and record.display_name.startswith(shown)):
        wanted["display_name"] = record.display_name
    for name, value in wanted.items():
        findings.compare(subject, _CELL, f"instances.{name}", value, instance[name])
    findings.compare(
        subject, _CELL, "instances.reservation_id",
        expected.origin.value, origin_of(instance).value,
    )  # fmt: skip
    if expected.origin is Origin.ADOPTED:
        listed = record.policy is Policy.LISTED
        found = bool(instance["disable_terminate"])
        findings.compare(subject, _CELL, "instances.disable_terminate", listed, found)
        has_time = instance["launched_at"] is not None
        findings.compare(subject, _CELL, "instances.launched_at is set", True, has_time)


def _compare_power(
    findings: Findings, subject: Subject, record: ServerRecord, instance: Row
) -> None:
    if record.power is Power.UNKNOWN:
        return
    wanted, found = record.power.value, instance["power_state"]
    findings.compare(subject, _CELL, "instances.power_state", wanted, found)
    if instance["vm_state"] in POWERED:
        state = VM_STATES[record.power]
        findings.compare(subject, _CELL, "instances.vm_state", state, instance["vm_state"])


def _compare_place(
    findings: Findings, subject: Subject, expected: ExpectedServer, instance: Row
) -> None:
    record = expected.record
    wanted: dict[str, Any] = {"host": record.compute_host, "node": record.node}
    # Adoption may come before the compute node; Nova's resource tracker then fills it in.
    if expected.compute_id is not None and instance["compute_id"] is not None:
        wanted["compute_id"] = expected.compute_id
    if expected.origin is Origin.ADOPTED:
        first = record.disks[0].device_name if record.disks else None
        wanted["root_device_name"] = first
    for name, value in wanted.items():
        findings.compare(subject, _CELL, f"instances.{name}", value, instance[name])


def _flavor(findings: Findings, subject: Subject, extra: list[Row]) -> Mapping[str, Any] | None:
    """The fields of the embedded flavor; None, with a difference, if there is none."""
    findings.compare(subject, _CELL, "instance_extra rows", 1, len(extra))
    flavor = _json(extra[0]["flavor"], "cur", "nova_object.data") if extra else None
    if flavor is None and extra:
        text = str(extra[0]["flavor"])[:100]
        findings.differ(subject, _CELL, "instance_extra.flavor", "an embedded flavor", text)
    return flavor


def _compare_flavor(
    findings: Findings,
    subject: Subject,
    expected: ExpectedServer,
    flavor: Mapping[str, Any],
    instance: Row,
) -> None:
    """A flavor of ours is the hardware; one of Nova's says what was ordered, disks included."""
    hardware = expected.record.flavor
    own = expected.origin is Origin.ADOPTED and (flavor.get("id") or 0) >= FIRST_OWN_FLAVOR
    names = ("id", "flavorid", "name", *SIZES) if own else ("vcpus", "memory_mb")
    for name in names:
        wanted, found = getattr(hardware, name), flavor.get(name)
        findings.compare(subject, _CELL, f"instance_extra.flavor.{name}", wanted, found)
    for name in SIZES:
        findings.compare(subject, _CELL, f"instances.{name}", flavor.get(name), instance[name])
    number = instance["instance_type_id"]
    findings.compare(subject, _CELL, "instances.instance_type_id", flavor.get("id"), number)


def _compare_metadata(
    findings: Findings, subject: Subject, wanted: Mapping[str, str], rows: list[Row]
) -> None:
    ours = [(row["key"], row["value"]) for row in rows if row["key"].startswith(OUR_METADATA)]
    _compare_pairs(findings, subject, "instance_metadata", wanted, ours)


def _compare_image(
    findings: Findings, subject: Subject, expected: ExpectedServer, rows: ServerRows
) -> None:
    """What is known of the image is written once; a rebuild with another is OpenStack's matter."""
    found = rows.instance["image_ref"]
    if found not in expected.image_ids and found != expected.record.image_id:
        return
    wanted = {
        "image_base_image_ref": found,
        "image_container_format": "bare",
        "image_disk_format": "vmdk",
        "image_hypervisor_type": "vmware",
    }
    pairs = [(row["key"], row["value"]) for row in rows.system_metadata if row["key"] in wanted]
    _compare_pairs(findings, subject, "instance_system_metadata", wanted, pairs)


def _compare_pairs(
    findings: Findings,
    subject: Subject,
    table: str,
    wanted: Mapping[str, str],
    pairs: list[tuple[str, str]],
) -> None:
    """Compare keys and values. No key of these tables is unique."""
    found = dict(pairs)
    for key in sorted(wanted.keys() | found.keys()):
        name = f"{table}.{key}"
        if key not in found:
            findings.differ(subject, _CELL, name, wanted[key], "")
        elif key not in wanted:
            findings.differ(subject, _CELL, name, "", found[key] or "")
        else:
            findings.compare(subject, _CELL, name, wanted[key], found[key])
    _compare_repeated(findings, subject, table, (key for key, _ in pairs))


def _compare_devices(
    findings: Findings, subject: Subject, record: ServerRecord, rows: list[Row]
) -> None:
    local = {row["uuid"]: row for row in rows if row["destination_type"] == "local"}
    wanted = {disk.uuid: disk for disk in record.disks}
    for uuid, disk in wanted.items():
        row = local.pop(uuid, None)
        name = f"block_device_mapping {disk.device_name}"
        if row is None:
            findings.differ(subject, _CELL, name, f"{disk.size_gb} GiB", "")
            continue
        source = "image" if disk.boot_index == 0 else "blank"
        fields = {
            "device_name": disk.device_name,
            "volume_size": disk.size_gb,
            "boot_index": disk.boot_index,
            "disk_bus": disk.disk_bus,
            "source_type": source,
        }
        for column, value in fields.items():
            findings.compare(subject, _CELL, f"{name} {column}", value, row[column])
    for row in local.values():
        name = f"block_device_mapping {row['device_name']}"
        findings.differ(subject, _CELL, name, "", f"{row['volume_size']} GiB")
    _compare_repeated(findings, subject, "block_device_mapping", (row["uuid"] for row in rows))


def _compare_mapping(
    findings: Findings, subject: Subject, expected: ExpectedServer, rows: list[Row]
) -> None:
    if not rows:
        findings.differ(subject, _API, "instance_mappings", "a row", "")
        return
    wanted = {
        "cell_id": expected.cell_id,
        "project_id": expected.record.project_id,
        "user_id": expected.record.user_id,
        "queued_for_delete": False,
    }
    for name, value in wanted.items():
        findings.compare(subject, _API, f"instance_mappings.{name}", value, rows[0][name])


def _compare_request_spec(
    findings: Findings,
    subject: Subject,
    expected: ExpectedServer,
    flavor: Mapping[str, Any] | None,
    rows: ServerRows,
) -> None:
    if not rows.request_specs:
        findings.differ(subject, _API, "request_specs", "a row", "")
        return
    spec = _json(rows.request_specs[0]["spec"], "nova_object.data")
    if spec is None:
        findings.differ(subject, _API, "request_specs.spec", "a request spec", "not readable")
        return
    uuid = expected.record.uuid
    found_uuid = spec.get("instance_uuid", uuid)
    findings.compare(subject, _API, "request_specs.instance_uuid", uuid, found_uuid)
    settled = rows.instance["vm_state"] in SETTLED
    if expected.origin is Origin.ADOPTED and settled and flavor is not None:
        asked = spec.get("flavor") or {}
        found = asked.get("nova_object.data", {})
        for name in ("id", *SIZES):
            value = flavor.get(name)
            findings.compare(subject, _API, f"request_specs.flavor.{name}", value, found.get(name))


def _compare_repeated(
    findings: Findings, subject: Subject, table: str, keys: Iterable[str]
) -> None:
    for key, times in Counter(keys).items():
        if times > 1:
            findings.compare(subject, _CELL, f"{table} rows of {key}", 1, times)


def _json(text: str | None, *path: str) -> Mapping[str, Any] | None:
    """An object inside of JSON; None when it is not there."""
    try:
        value = json.loads(text or "null")
        for key in path:
            value = value[key]
    except (ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, dict) else None
