"""Unified limits of a project are lifted in Keystone, or the error says what to do."""

import pytest

from controlplane.openstack.keystone.limits import KeystoneError, UnifiedLimits
from tests.support.scripted_api import scripted_api

SERVICES = "GET /services?type=compute"
REGISTERED = "GET /registered_limits?service_id=s"
LIMITS = "GET /limits?service_id=s&project_id=p"


def registered(name: str, limit: int) -> dict[str, object]:
    return {"resource_name": name, "region_id": None, "service_id": "s", "default_limit": limit}


def test_limits_of_nova_are_lifted_and_no_others() -> None:
    own = {"id": "1", "resource_name": "servers", "region_id": None, "resource_limit": 3}
    answers = {
        SERVICES: (200, {"services": [{"id": "s"}]}),
        REGISTERED: (
            200,
            {
                "registered_limits": [
                    registered("servers", 10),
                    registered("class:VCPU", 20),
                    registered("class:DISK_GB", -1),
                    registered("server_key_pairs", 100),
                ]
            },
        ),
        LIMITS: (200, {"limits": [own]}),
        "PATCH /limits/1": (200, {"limit": {}}),
        "POST /limits": (201, {"limits": []}),
    }
    with scripted_api(answers) as adapter:
        assert UnifiedLimits(adapter).lift("p") == {"servers": 3, "class:VCPU": 20}


def test_user_without_the_role_is_told_so() -> None:
    with (
        scripted_api({SERVICES: (403, "forbidden")}) as adapter,
        pytest.raises(KeystoneError, match="needs the role admin"),
    ):
        UnifiedLimits(adapter).lift("p")


def test_answer_that_is_not_keystones_is_an_error_with_a_name() -> None:
    with (
        scripted_api({SERVICES: (200, "<html>a proxy's page</html>")}) as adapter,
        pytest.raises(KeystoneError, match="has no services"),
    ):
        UnifiedLimits(adapter).lift("p")
