"""gRPC's statuses become typed errors."""

import grpc
import pytest

from edge.errors import (
    ConnectedAlreadyError,
    ControlPlaneUnreachableError,
    EdgeRefusedError,
    LinkLostError,
)
from edge.link.faults import translate


class Broken(grpc.RpcError):
    """What gRPC raises."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "because"


@pytest.mark.parametrize(
    ("code", "opened", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, False, ControlPlaneUnreachableError),
        (grpc.StatusCode.UNAVAILABLE, True, LinkLostError),
        (grpc.StatusCode.ABORTED, True, LinkLostError),
        (grpc.StatusCode.UNAUTHENTICATED, False, EdgeRefusedError),
        (grpc.StatusCode.PERMISSION_DENIED, True, EdgeRefusedError),
        (grpc.StatusCode.FAILED_PRECONDITION, False, EdgeRefusedError),
        (grpc.StatusCode.ALREADY_EXISTS, False, ConnectedAlreadyError),
    ],
)
def test_errors_by_status(code: grpc.StatusCode, opened: bool, kind: type[Exception]) -> None:
    error = translate(Broken(code), opened)
    assert type(error) is kind
    assert "because" in str(error)
