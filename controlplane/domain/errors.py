"""Errors that cross the seams of the control plane. Those of one part live in that part.

The text of each is for a person and says what to do. ``controlplane.gateway.status`` maps them to
gRPC statuses, ``controlplane.compute`` to Nova's exceptions.
"""


class ControlPlaneError(Exception):
    """Base of the control plane's own errors."""


class ConfigurationError(ControlPlaneError):
    """A configuration file or value is wrong; commands end with exit code 2."""

    def __init__(self, problem: str, *, file: str = "", section: str = "", key: str = "") -> None:
        place = f"[{section}] {key}" if key else f"[{section}]" if section else ""
        super().__init__(": ".join(part for part in (file, place, problem) if part))
        self.problem = problem
        self.file = file
        self.section = section
        self.key = key


class StartError(ControlPlaneError):
    """The control plane cannot start on this machine as it is configured."""


class FlowControlError(ControlPlaneError):
    """An edge sends more than its window allows; its inventory stream is ended."""


class InvalidMessageError(ControlPlaneError):
    """An edge's message breaks the protocol; its stream is ended."""


class OnDemandReadError(ControlPlaneError):
    """A vCenter could not be read afresh."""


class EdgeOfflineError(ControlPlaneError):
    """No edge with a live stream holds the lease of a vCenter."""

    def __init__(self, vcenter_uuid: str, edge_name: str = "", since: str = "") -> None:
        who = f"edge {edge_name}" if edge_name else "an edge"
        offline = f"{who} is offline since {since}" if since else f"{who} is not connected"
        super().__init__(f"{offline}; it serves vCenter {vcenter_uuid}")
        self.vcenter_uuid = vcenter_uuid
        self.edge_name = edge_name
        self.since = since


class NovaApiError(ControlPlaneError):
    """Nova's API did not do what was asked of it; the message is for a person."""
