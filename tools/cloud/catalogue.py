"""What a new cloud holds: service users, the catalogue, a project with a network, flavors."""

from typing import Any

import openstack

from tools.cloud.layout import (
    ADMIN,
    DEMO,
    DOMAIN,
    REGION,
    SERVICE_PROJECT,
    SERVICE_USERS,
    Layout,
)
from tools.servers.state import Port

SERVICES = {
    "compute": ("nova", Port.NOVA, "/v2.1"),
    "placement": ("placement", Port.PLACEMENT, ""),
    "image": ("glance", Port.GLANCE, ""),
    "network": ("neutron", Port.NEUTRON, ""),
}
INTERFACES = ("public", "internal")
NETWORK = "demo-network"
SUBNET = "192.168.233.0/24"
FLAVORS = {"m1.tiny": (1, 512, 1), "m1.small": (1, 2048, 20), "m1.medium": (2, 4096, 40)}
UNLIMITED = ("instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups")


def connect(layout: Layout, user: str = ADMIN, project: str | None = None) -> Any:
    """An openstacksdk connection as a user, in the project of the same name unless given."""
    return openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_type="password",
        auth={
            "auth_url": layout.auth_url,
            "username": user,
            "password": layout.password,
            "project_name": project or user,
            "user_domain_name": DOMAIN,
            "project_domain_name": DOMAIN,
        },
        region_name=REGION,
        identity_api_version="3",
        compute_default_microversion="2.96",
    )


class Catalogue:
    """Fills a new cloud; finds what is there already, so it can be run again."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def identity(self) -> None:
        """Projects, users and roles, and where each service is."""
        identity = connect(self._layout).identity
        domain = identity.find_domain(DOMAIN, ignore_missing=False).id
        roles = {role.name: role for role in identity.roles()}
        for name in (SERVICE_PROJECT, DEMO):
            if identity.find_project(name) is None:
                identity.create_project(name=name, domain_id=domain)
        for user in SERVICE_USERS:
            # Neutron refuses Nova's service token without the role `service`.
            wanted = [roles["admin"], roles["service"]]
            self._user(identity, user, domain, SERVICE_PROJECT, wanted)
        self._user(identity, DEMO, domain, DEMO, [roles["member"]])
        self._endpoints(identity)

    def _user(self, identity: Any, name: str, domain: str, project: str, roles: list[Any]) -> None:
        user = identity.find_user(name) or identity.create_user(
            name=name, domain_id=domain, password=self._layout.password
        )
        into = identity.find_project(project, ignore_missing=False)
        for role in roles:
            identity.assign_project_role_to_user(into, user, role)

    def _endpoints(self, identity: Any) -> None:
        present = {(point.service_id, point.interface) for point in identity.endpoints()}
        for kind, (name, port, path) in SERVICES.items():
            service = identity.find_service(name) or identity.create_service(name=name, type=kind)
            for interface in INTERFACES:
                if (service.id, interface) not in present:
                    identity.create_endpoint(
                        service_id=service.id,
                        interface=interface,
                        region_id=REGION,
                        url=self._layout.url(port, path),
                    )

    def network(self) -> None:
        """A network of the demo project."""
        cloud = connect(self._layout)
        network = cloud.network
        if network.find_network(NETWORK) is not None:
            return
        project = cloud.identity.find_project(DEMO, ignore_missing=False).id
        made = network.create_network(name=NETWORK, project_id=project)
        network.create_subnet(
            name=NETWORK, network_id=made.id, project_id=project, ip_version=4, cidr=SUBNET
        )

    def compute(self) -> None:
        """Flavors, and quota that never stops the demo project."""
        cloud = connect(self._layout)
        compute = cloud.compute
        present = {flavor.name for flavor in compute.flavors()}
        for name, (vcpus, ram, disk) in FLAVORS.items():
            if name not in present:
                compute.create_flavor(name=name, vcpus=vcpus, ram=ram, disk=disk)
        project = cloud.identity.find_project(DEMO, ignore_missing=False)
        compute.update_quota_set(project, **dict.fromkeys(UNLIMITED, -1))
