"""What can go wrong at the edge outside of vCenter. Each message says what to do next."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path


class EdgeError(Exception):
    """Base of the errors of the edge that need a person's attention."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One wrong value."""

    key: str
    """Section and key, for example ``vcenter.host``; empty when the file itself is wrong."""
    expected: str
    """What was found and what was expected, for a person."""


class ConfigError(EdgeError):
    """The configuration cannot be used. Lists every problem, not the first only."""

    def __init__(self, file: Path, problems: Sequence[ConfigProblem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__("\n".join(self._line(problem) for problem in problems))

    def _line(self, problem: ConfigProblem) -> str:
        key = f"{problem.key}: " if problem.key else ""
        return f"{self.file}: {key}{problem.expected}"


class SecretUnreadableError(EdgeError):
    """A file that holds a password cannot be read."""


class BundleError(EdgeError):
    """The directory that `vsg-certs stamp` wrote is missing, damaged or not valid now."""


class LinkError(EdgeError):
    """The link to the control plane cannot be opened or was lost."""


class ControlPlaneUnreachableError(LinkError):
    """Nothing answers at the control plane's address."""


class ControlPlaneNotTrustedError(LinkError):
    """What answers is not this customer's control plane."""


class EdgeRefusedError(LinkError):
    """The control plane refuses this edge: its certificate, name or version."""


class ConnectedAlreadyError(EdgeRefusedError):
    """A process that was started later is connected as this edge."""


class LinkLostError(LinkError):
    """An open link broke."""


class LinkSilentError(LinkLostError):
    """The control plane has not answered heartbeats for too long."""


class VCenterReplacedError(EdgeError):
    """Another vCenter answers at the address than since the start of the process."""
