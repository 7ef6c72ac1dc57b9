"""The version of this software."""

import importlib.metadata


def software_version() -> str:
    """Return the version of the installed distribution, for example ``0.1.0``."""
    return importlib.metadata.version("vsphere-gateway")
