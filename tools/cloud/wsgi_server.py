"""Serves one OpenStack API: python -m tools.cloud.wsgi_server MODULE PORT [THREADS]."""

import importlib
import signal
import sys
from types import FrameType

from tools.servers.state import LOOPBACK


def main() -> None:
    """Load the module's WSGI application and serve it until SIGTERM."""
    module, port, *rest = sys.argv[1:]
    # The services read their own options from the command line.
    sys.argv = [module]
    # nova and neutron choose their threads when they are imported: before anything else.
    application = importlib.import_module(module).application
    waitress = importlib.import_module("waitress")
    signal.signal(signal.SIGTERM, _stop)
    waitress.serve(
        application,
        host=LOOPBACK,
        port=int(port),
        threads=int(rest[0]) if rest else 8,
        clear_untrusted_proxy_headers=True,
    )


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
