"""`vsg-compute`: nova-compute with our driver, on native threads.

The arguments are nova-compute's. The control plane's supervisor starts it with files that
`controlplane.compute.workers.worker_config` wrote.
"""

import os
from pathlib import Path

from common.process_memory import freeze_gc

VIRT_FOLDER = Path(__file__).with_name("virt")


def main() -> None:
    """Run until SIGTERM."""
    # Before any other import of nova, and stronger than `concurrency_backend` in a file.
    os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
    from nova import monkey_patch

    monkey_patch.patch(backend="threading")
    import nova.conf
    import nova.virt

    # nova-compute has no business in the databases, and with their URLs it tries to get in
    # (nova/utils.py:raise_if_old_compute).
    for group in ("api_database", "database"):
        nova.conf.CONF.set_override("connection", None, group=group)
    # Nova loads drivers from this package and from nowhere else
    # (nova/virt/driver.py:load_compute_driver).
    nova.virt.__path__.append(str(VIRT_FOLDER))
    from nova.cmd import compute

    freeze_gc()
    compute.main()


if __name__ == "__main__":
    main()
