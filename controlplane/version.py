"""The version of this software."""

import importlib.metadata

VERSION = importlib.metadata.version("vsphere-gateway")
