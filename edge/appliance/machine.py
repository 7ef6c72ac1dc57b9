"""The machine that the edge runs on."""

import os
from collections.abc import Mapping
from pathlib import Path

CREDENTIAL = "machine-uuid"
"""The unit file passes the UUID as a credential, since only root may read it."""
_PRODUCT_UUID = Path("/sys/class/dmi/id/product_uuid")


def machine_uuid(environment: Mapping[str, str] = os.environ) -> str:
    """The SMBIOS UUID in lower case; empty when it cannot be read."""
    candidates = [_PRODUCT_UUID]
    if directory := environment.get("CREDENTIALS_DIRECTORY"):
        candidates.insert(0, Path(directory) / CREDENTIAL)
    for file in candidates:
        try:
            text = file.read_text(encoding="ascii").strip().lower()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text
    return ""
