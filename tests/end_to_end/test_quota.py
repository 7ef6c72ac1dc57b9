"""A project's quota never stops it because virtual machines were adopted into it."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.config.nova_config import NovaConfig
from controlplane.openstack.keystone import adapters
from controlplane.openstack.keystone import limits as keystone_limits
from controlplane.openstack.nova.quota import RESOURCES
from tests.support.demo_site import PROJECT, DemoSite
from tests.support.waiting import eventually
from tools.cloud.catalogue import connect
from tools.cloud.cloud import Cloud
from tools.demo.vcenter import TEMPLATE

pytestmark = pytest.mark.cloud

DEFAULT_CORES = 20
"""Nova's own default ([quota] cores)."""


def test_create_in_a_project_that_adoption_has_filled_beyond_the_default_quota(
    cloud: Cloud, site: DemoSite
) -> None:
    administrator = connect(cloud.layout)
    project = administrator.identity.find_project(PROJECT)
    defaults = administrator.compute.get_quota_set_defaults(project)
    assert defaults.cores == DEFAULT_CORES
    site.make("filler", "-c", str(DEFAULT_CORES))
    eventually(lambda: site.status("filler"), "SHUTOFF")
    compute = site.openstack.compute
    server = compute.create_server(
        name="beyond-quota",
        flavor_id=compute.find_flavor("m1.small").id,
        image_id=site.openstack.image.find_image(TEMPLATE).id,
        networks="none",
    )
    eventually(lambda: site.status("beyond-quota"), "ACTIVE", seconds=120)
    quota = administrator.compute.get_quota_set(project)
    assert [getattr(quota, name) for name in RESOURCES] == [-1, -1, -1]
    compute.delete_server(server)
    site.vcenter.govc("vm.destroy", "filler")
    eventually(lambda: site.server("filler"), None)
    eventually(lambda: site.server("beyond-quota"), None, seconds=60)


@pytest.fixture
def keystone(cloud: Cloud) -> Iterator[Any]:
    """Keystone with Nova's limits registered, as an operator with unified limits has them."""
    openstack = connect(cloud.layout)
    identity = openstack.identity
    service = next(identity.services(type="compute"))
    made = [
        identity.create_registered_limit(
            service_id=service.id, resource_name=name, default_limit=10
        )
        for name in (*keystone_limits.RESOURCES, "server_key_pairs")
    ]
    project = identity.create_project(name=f"limited-{secrets.token_hex(4)}")
    yield openstack, project
    for limit in identity.limits(project_id=project.id):
        identity.delete_limit(limit)
    for registered in made:
        identity.delete_registered_limit(registered)
    identity.delete_project(project)


def test_unified_limits_are_lifted_in_keystone(cloud: Cloud, keystone: Any) -> None:
    openstack, project = keystone
    service = next(openstack.identity.services(type="compute"))
    openstack.identity.create_limit(
        service_id=service.id, project_id=project.id, resource_name="servers", resource_limit=3
    )
    config = NovaConfig(cloud.layout.nova_conf)
    limits = keystone_limits.UnifiedLimits(
        adapters.connect(config, "identity", "", adapters.ADMINISTRATORS)
    )
    before = limits.lift(project.id)
    assert before == {**dict.fromkeys(keystone_limits.RESOURCES, 10), "servers": 3}
    found = openstack.identity.limits(project_id=project.id)
    assert {one.resource_name: one.resource_limit for one in found} == dict.fromkeys(
        keystone_limits.RESOURCES, -1
    )
    assert limits.lift(project.id) == {}, "there is nothing left to lift"
