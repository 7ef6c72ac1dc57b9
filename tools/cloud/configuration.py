"""Writes the services' configuration files, as an operator would have them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tools.cloud.layout import DOMAIN, PACKAGED_ETC, REGION, SERVICE_PROJECT, Layout
from tools.servers.state import LOOPBACK, Port

VLAN_RANGE = "physnet1:100:1999"


def write_all(layout: Layout) -> set[str]:
    """Write every configuration file of the cloud; returns whose has changed."""
    files = {
        "keystone": (layout.file("keystone", "keystone.conf"), keystone(layout)),
        "placement": (layout.file("placement", "placement.conf"), placement(layout)),
        "glance": (layout.glance_conf, glance(layout)),
        "neutron": (layout.file("neutron", "neutron.conf"), neutron(layout)),
        "nova": (layout.nova_conf, nova(layout)),
    }
    changed = {service for service, (path, sections) in files.items() if write(path, sections)}
    # nova looks for it beside nova.conf.
    shutil.copy(PACKAGED_ETC / "nova" / "api-paste.ini", layout.service_folder("nova"))
    _write_openrc(layout.openrc, layout.environment())
    _write_openrc(layout.demo_openrc, layout.environment("demo"))
    return changed


def write(path: Path, sections: Mapping[str, Mapping[str, object]]) -> bool:
    """Write an oslo.config file that only its owner can read, for it holds passwords.

    Returns whether that changed anything.
    """
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {_text(value)}" for name, value in options.items()]
        lines.append("")
    text = "\n".join(lines)
    path.touch(mode=0o600)
    if path.read_text() == text:
        return False
    path.write_text(text)
    return True


def _text(value: object) -> str:
    # oslo.config substitutes $name.
    return str(value).replace("$", "$$")


def _write_openrc(path: Path, environment: Mapping[str, str]) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}='{value}'\n" for name, value in environment.items()))


def _user(layout: Layout, user: str) -> dict[str, object]:
    """How a service logs in to Keystone (keystoneauth1's options)."""
    return {
        "auth_type": "password",
        "auth_url": layout.auth_url,
        "username": user,
        "password": layout.password,
        "project_name": SERVICE_PROJECT,
        "user_domain_name": DOMAIN,
        "project_domain_name": DOMAIN,
        "region_name": REGION,
    }


def _token_check(layout: Layout, user: str) -> dict[str, object]:
    """[keystone_authtoken]: how a service checks its callers' tokens."""
    return {
        **_user(layout, user),
        "www_authenticate_uri": layout.auth_url,
        "service_token_roles": "service",
        "service_token_roles_required": True,
    }


def _database(layout: Layout, name: str) -> dict[str, object]:
    return {"connection": layout.database_url(name), "max_pool_size": 10, "max_overflow": 50}


def _locks(layout: Layout, service: str) -> dict[str, object]:
    return {"lock_path": layout.file(service, "locks")}


def keystone(layout: Layout) -> dict[str, dict[str, object]]:
    """keystone.conf."""
    return {
        "DEFAULT": {"public_endpoint": layout.url(Port.KEYSTONE)},
        "database": _database(layout, "keystone"),
        "token": {"provider": "fernet", "expiration": 86400},
        "fernet_tokens": {"key_repository": layout.file("keystone", "fernet-keys")},
        "fernet_receipts": {"key_repository": layout.file("keystone", "fernet-keys")},
        "credential": {"key_repository": layout.file("keystone", "credential-keys")},
        # Each login of a service costs a hash; these passwords are random anyway.
        "identity": {"password_hash_rounds": 4},
    }


def placement(layout: Layout) -> dict[str, dict[str, object]]:
    """placement.conf."""
    return {
        "api": {"auth_strategy": "keystone"},
        "placement_database": _database(layout, "placement"),
        "keystone_authtoken": _token_check(layout, "placement"),
    }


def glance(layout: Layout) -> dict[str, dict[str, object]]:
    """glance-api.conf."""
    stores = ("fs", "os_glance_staging_store", "os_glance_tasks_store")
    return {
        "DEFAULT": {
            "bind_host": LOOPBACK,
            "bind_port": Port.GLANCE.number,
            "public_endpoint": layout.url(Port.GLANCE),
            "enabled_backends": "fs:file",
            "transport_url": layout.transport_url,
        },
        "database": _database(layout, "glance"),
        "glance_store": {"default_backend": "fs"},
        **{store: {"filesystem_store_datadir": layout.file("glance", store)} for store in stores},
        "keystone_authtoken": _token_check(layout, "glance"),
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": PACKAGED_ETC / "glance" / "glance-api-paste.ini",
        },
        "oslo_limit": _user(layout, "glance"),
        "oslo_concurrency": _locks(layout, "glance"),
    }


def neutron(layout: Layout) -> dict[str, dict[str, object]]:
    """neutron.conf, with ml2's part in it."""
    return {
        "DEFAULT": {
            "core_plugin": "ml2",
            "service_plugins": "router",
            "transport_url": layout.transport_url,
            "api_paste_config": PACKAGED_ETC / "neutron" / "api-paste.ini",
            "state_path": layout.service_folder("neutron"),
            "rpc_workers": 0,
            "dhcp_agent_notification": False,
            "notify_nova_on_port_status_changes": True,
            "notify_nova_on_port_data_changes": True,
        },
        "ml2": {
            "type_drivers": "flat,vlan",
            "tenant_network_types": "vlan",
            "mechanism_drivers": "one_machine",
        },
        "ml2_type_flat": {"flat_networks": "*"},
        "ml2_type_vlan": {"network_vlan_ranges": VLAN_RANGE},
        "database": _database(layout, "neutron"),
        "keystone_authtoken": _token_check(layout, "neutron"),
        "nova": _user(layout, "nova"),
        "placement": _user(layout, "placement"),
        "oslo_concurrency": _locks(layout, "neutron"),
        "quotas": {"quota_port": -1, "quota_network": -1, "quota_subnet": -1},
    }


def nova(layout: Layout) -> dict[str, dict[str, object]]:
    """nova.conf."""
    client = _user(layout, "nova")
    return {
        "DEFAULT": {
            "host": "controller",
            "my_ip": LOOPBACK,
            "state_path": layout.service_folder("nova"),
            "transport_url": layout.transport_url,
        },
        "api": {"auth_strategy": "keystone"},
        "api_database": _database(layout, "nova_api"),
        "database": _database(layout, "nova_cell1"),
        "keystone_authtoken": _token_check(layout, "nova"),
        "service_user": {**client, "send_service_user_token": True},
        "placement": client,
        "neutron": client,
        "glance": client,
        "cinder": client,
        "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 10},
        "conductor": {"workers": 1},
        "notifications": {
            "notification_format": "both",
            "notify_on_state_change": "vm_and_task_state",
        },
        "oslo_messaging_notifications": {"driver": "messagingv2"},
        # As providers have it: what is asked of a service that has not dialled RabbitMQ again yet
        # after its restart waits for it, and is not lost.
        "oslo_messaging_rabbit": {"amqp_durable_queues": True},
        "oslo_concurrency": _locks(layout, "nova"),
    }
