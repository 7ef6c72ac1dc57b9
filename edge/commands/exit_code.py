"""What the exit code of `vsg-edge` means, for scripts and for systemd."""

import enum


class ExitCode(enum.IntEnum):
    """The same for every command."""

    OK = 0
    FAILED = 1
    """Something failed; the reason was printed, or logged by `run`."""
    CONFIG = 2
    """The configuration cannot be used. 2 is also argparse's for a wrong command line."""
