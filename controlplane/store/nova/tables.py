"""Nova's tables (nova/db/main/models.py, nova/db/api/models.py) under short names."""

from typing import Any, cast

from nova.db.api import models as api
from nova.db.main import models as main
from sqlalchemy import Table


def _table(model: Any) -> Table:
    return cast(Table, model.__table__)


INSTANCES = _table(main.Instance)
INSTANCE_EXTRA = _table(main.InstanceExtra)
INFO_CACHES = _table(main.InstanceInfoCache)
METADATA = _table(main.InstanceMetadata)
SYSTEM_METADATA = _table(main.InstanceSystemMetadata)
BLOCK_DEVICES = _table(main.BlockDeviceMapping)
FAULTS = _table(main.InstanceFault)
MIGRATIONS = _table(main.Migration)
VIRTUAL_INTERFACES = _table(main.VirtualInterface)
TAGS = _table(main.Tag)
CONSOLE_TOKENS = _table(main.ConsoleAuthToken)
SERVICES = _table(main.Service)
COMPUTE_NODES = _table(main.ComputeNode)

CELL_MAPPINGS = _table(api.CellMapping)
HOST_MAPPINGS = _table(api.HostMapping)
INSTANCE_MAPPINGS = _table(api.InstanceMapping)
REQUEST_SPECS = _table(api.RequestSpec)
AGGREGATE_HOSTS = _table(api.AggregateHost)
AGGREGATE_METADATA = _table(api.AggregateMetadata)
