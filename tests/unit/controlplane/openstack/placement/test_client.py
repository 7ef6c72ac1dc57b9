"""What placement cannot do now is told apart from what it refuses."""

import pytest

from controlplane.openstack.placement.client import (
    PlacementClient,
    PlacementConflictError,
    PlacementError,
    PlacementRefusedError,
    PlacementUnavailableError,
)
from tests.support.scripted_api import Answer, scripted_api

CONFLICT = {"errors": [{"detail": "again", "code": "placement.concurrent_update"}]}
NO_ROOM = {"errors": [{"detail": "no room", "code": "placement.undefined_code"}]}


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ((200, "<html>a proxy's page</html>"), PlacementUnavailableError, "no JSON"),
        ((403, "forbidden"), PlacementUnavailableError, "needs the role admin or service"),
        ((503, "starting"), PlacementUnavailableError, "503"),
        ((409, CONFLICT), PlacementConflictError, "again"),
        ((409, NO_ROOM), PlacementRefusedError, "no room"),
    ],
)
def test_answers_become_errors_by_what_helps(
    answer: Answer, error: type[PlacementError], text: str
) -> None:
    with (
        scripted_api({"GET /resource_providers/p/usages": answer}) as adapter,
        pytest.raises(error, match=text),
    ):
        PlacementClient(adapter).usages("p")
