"""Maps the control plane's errors to gRPC statuses; nothing else does."""

import dataclasses
from typing import NoReturn

import grpc

from certs.errors import IdentityError
from controlplane.domain.errors import (
    ControlPlaneError,
    EdgeOfflineError,
    FlowControlError,
    InvalidMessageError,
)
from controlplane.store.errors import StoreError


class RefusedError(ControlPlaneError):
    """A call is refused; the error carries its status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class NotLeaseholderError(ControlPlaneError):
    """The edge does not hold the lease of the vCenter whose inventory it offers."""


@dataclasses.dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a call ends."""

    code: grpc.StatusCode
    details: str = ""

    def apply(self, context: grpc.ServicerContext) -> None:
        """Abort the call, unless it ends well."""
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, self.details)


FINISHED = StreamEnd(grpc.StatusCode.OK)
"""The peer closed its half or is gone, so nobody reads a status."""

_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (IdentityError, grpc.StatusCode.UNAUTHENTICATED),
    (InvalidMessageError, grpc.StatusCode.INVALID_ARGUMENT),
    (FlowControlError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (EdgeOfflineError, grpc.StatusCode.UNAVAILABLE),
    (NotLeaseholderError, grpc.StatusCode.UNAVAILABLE),
    (StoreError, grpc.StatusCode.UNAVAILABLE),
)

KNOWN_ERRORS: tuple[type[Exception], ...] = (RefusedError, *(kind for kind, _ in _CODES))
"""Errors that a servicer answers with a status."""


def end_of(error: Exception) -> StreamEnd:
    """Map one of ``KNOWN_ERRORS`` to the end of the call that it stopped."""
    if isinstance(error, RefusedError):
        return StreamEnd(error.code, str(error))
    for kind, code in _CODES:
        if isinstance(error, kind):
            return StreamEnd(code, str(error))
    return StreamEnd(grpc.StatusCode.INTERNAL, "an error of the control plane, see its log")


def abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status of one of ``KNOWN_ERRORS``."""
    end = end_of(error)
    context.abort(end.code, end.details)
    raise AssertionError("abort returned")
