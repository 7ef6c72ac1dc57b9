"""What Nova's API answers a user who is no administrator is told apart from the truth."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from controlplane.domain.errors import NovaApiError
from controlplane.domain.records import ServerAction, ServerFacts
from controlplane.openstack.nova.api import NotAdministratorError, NovaApi
from tests.support.scripted_api import Answers, scripted_api

SERVER = "0c9d1f5e-0000-4000-8000-000000000001"
SERVICES = "/os-services?binary=nova-compute&host="
FORBIDDEN = (403, {"forbidden": {"message": "Policy doesn't allow it", "code": 403}})
NOT_FOUND = (404, {"itemNotFound": {"message": "Instance could not be found.", "code": 404}})
FOR_EVERYBODY = {"OS-EXT-STS:vm_state": "error", "OS-EXT-STS:task_state": None}
ACTIONS = {"instanceActions": [{"action": "delete", "request_id": "req-1"}]}

MakeApi = Callable[[Answers], NovaApi]


@pytest.fixture
def nova() -> Iterator[MakeApi]:
    """Makes a client of an API that answers as it is told to."""
    with ExitStack() as servers:
        yield lambda answers: NovaApi(servers.enter_context(scripted_api(answers)))


def test_administrator_reads_what_decides_about_a_delete(nova: MakeApi) -> None:
    api = nova(
        {
            f"GET /servers/{SERVER}": (
                200, {"server": {**FOR_EVERYBODY, "OS-EXT-SRV-ATTR:host": "h"}},
            ),
            f"GET {SERVICES}h": (200, {"services": [{"state": "up"}]}),
            f"GET /servers/{SERVER}/os-instance-actions": (200, ACTIONS),
        }
    )  # fmt: skip
    assert api.server(SERVER) == ServerFacts("error", None, True, [ServerAction("delete", "req-1")])


def test_administrator_learns_that_a_server_is_gone(nova: MakeApi) -> None:
    gone = {f"{method} /servers/{SERVER}": NOT_FOUND for method in ("GET", "DELETE")}
    api = nova({**gone, f"GET {SERVICES}none": (200, {"services": []})})
    assert api.server(SERVER) is None
    assert api.delete(SERVER) == ""


def test_user_without_the_role_is_told_which_one_it_lacks_and_what_to_run(nova: MakeApi) -> None:
    # A server of its own project, without the attributes that only administrators see.
    api = nova({f"GET /servers/{SERVER}": (200, {"server": FOR_EVERYBODY})})
    with pytest.raises(NotAdministratorError) as caught:
        api.server(SERVER)
    assert "lacks the role admin" in str(caught.value)
    assert "openstack role add" in str(caught.value)


def test_user_without_the_role_does_not_take_a_server_of_another_project_for_gone(
    nova: MakeApi,
) -> None:
    hidden = {f"{method} /servers/{SERVER}": NOT_FOUND for method in ("GET", "DELETE")}
    api = nova({**hidden, f"GET {SERVICES}none": FORBIDDEN})
    with pytest.raises(NotAdministratorError, match="lacks the role admin"):
        api.server(SERVER)
    assert "lacks the role admin" in api.delete(SERVER)


def test_user_without_the_role_cannot_read_a_quota(nova: MakeApi) -> None:
    api = nova({"GET /os-quota-sets/p/detail": FORBIDDEN})
    with pytest.raises(NotAdministratorError):
        api.quota("p")


@pytest.mark.parametrize("body", ["<html>a proxy's page</html>", "[]", '{"other": 1}'])
def test_answer_that_is_not_novas_is_an_error_with_a_name(nova: MakeApi, body: str) -> None:
    api = nova({"GET /os-quota-sets/p/detail": (200, body)})
    with pytest.raises(NovaApiError, match="has no quota_set"):
        api.quota("p")
