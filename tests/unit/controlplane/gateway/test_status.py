"""With which status a call ends, and what its peer is told."""

import grpc
import pytest

from certs.errors import IdentityError
from controlplane.domain.errors import EdgeOfflineError, FlowControlError, InvalidMessageError
from controlplane.gateway.status import RefusedError, end_of
from controlplane.store.errors import DatabaseUnavailableError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IdentityError("x"), grpc.StatusCode.UNAUTHENTICATED),
        (InvalidMessageError("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (FlowControlError("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (EdgeOfflineError("x"), grpc.StatusCode.UNAVAILABLE),
        (DatabaseUnavailableError("x"), grpc.StatusCode.UNAVAILABLE),
        (RefusedError(grpc.StatusCode.PERMISSION_DENIED, "x"), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_errors_have_their_status(error: Exception, code: grpc.StatusCode) -> None:
    assert end_of(error).code is code


def test_what_is_not_foreseen_tells_the_peer_nothing() -> None:
    end = end_of(KeyError("password"))
    assert end.code is grpc.StatusCode.INTERNAL
    assert "password" not in end.details
