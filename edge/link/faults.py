"""Translates gRPC's errors into ours, by status code and never by text."""

from typing import Final

import grpc

from edge.errors import (
    ConnectedAlreadyError,
    ControlPlaneUnreachableError,
    EdgeRefusedError,
    LinkError,
    LinkLostError,
)

_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Statuses by which the control plane refuses the edge: to repeat the call does not help."""


def translate(error: grpc.RpcError, opened: bool) -> LinkError:
    """Make the typed error. ``opened``: the call had been answered before."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return ConnectedAlreadyError(f"the control plane refuses this edge: {details}")
    if code in _REFUSALS:
        return EdgeRefusedError(f"the control plane refuses this edge ({code.name}): {details}")
    if opened:
        return LinkLostError(f"the link broke ({code.name}): {details}")
    return ControlPlaneUnreachableError(f"no link ({code.name}): {details}")
