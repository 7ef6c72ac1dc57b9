"""The version of this software."""

import importlib.metadata
from typing import Final

SOFTWARE_VERSION: Final = importlib.metadata.version("vsphere-gateway")
"""Of the installed distribution, for example ``0.1.0``."""
