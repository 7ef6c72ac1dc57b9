"""One image's rows in Glance against its template. Pure."""

from collections.abc import Set

from controlplane.domain.records import ImageRecord
from controlplane.store.glance.readers import ImageRows
from controlplane.verification.findings import Findings, Place, Subject

LOCATION = "vsphere://"
_HARDWARE_PROPERTIES = (
    "hw_disk_bus",
    "hw_firmware_type",
    "hw_vif_model",
    "hypervisor_type",
    "vmware_adaptertype",
    "vmware_disktype",
    "vmware_ostype",
)
_PREFIXES = ("vsphere_", "trait:CUSTOM_VSG_")


def compare_image(
    findings: Findings,
    subject: Subject,
    record: ImageRecord,
    rows: ImageRows | None,
    *,
    with_locations: bool,
    with_members: bool = True,
) -> None:
    """Compare what is vCenter's, and who has and sees the image."""
    if rows is None or rows.image["deleted"]:
        found = "" if rows is None else "deleted"
        findings.differ(subject, Place.GLANCE, "images", record.id, found)
        return
    wanted = {
        "name": record.name,
        "size": record.size_bytes,
        "virtual_size": record.size_bytes,
        "min_disk": record.min_disk_gb,
        "min_ram": record.min_ram_mb,
        "disk_format": "vmdk",
        "container_format": "bare",
        "status": "active",
        "protected": True,
        "owner": record.owner,
        "visibility": record.visibility,
    }
    for name, value in wanted.items():
        findings.compare(subject, Place.GLANCE, f"images.{name}", value, rows.image[name])
    _compare_properties(findings, subject, record, rows.properties)
    if with_members:
        _compare_members(findings, subject, record.members, rows.members)
    if with_locations:
        ours = [value for value in rows.locations if value.startswith(LOCATION)]
        findings.compare(subject, Place.GLANCE, "image_locations", [record.location], ours)


def _compare_members(
    findings: Findings, subject: Subject, wanted: Set[str], found: Set[str]
) -> None:
    """Every project that the rules name must see the image; its owner may share it with more."""
    for project in sorted(wanted - found):
        findings.differ(subject, Place.GLANCE, "image_members", project, "")
    more = ", ".join(sorted(found - wanted))
    if more:
        findings.excuse(subject, f"OpenStack shares its image with more projects: {more}")


def _compare_properties(
    findings: Findings, subject: Subject, record: ImageRecord, stored: dict[str, str]
) -> None:
    found = {
        name: value
        for name, value in stored.items()
        if name in record.properties or name in _HARDWARE_PROPERTIES or name.startswith(_PREFIXES)
    }
    for name in sorted(record.properties.keys() | found.keys()):
        label = f"image_properties.{name}"
        value = found.get(name, "")
        findings.compare(subject, Place.GLANCE, label, record.properties.get(name, ""), value)
