"""Whether a cloud that has started does its work."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import openstack.exceptions

from tools.cloud.catalogue import connect
from tools.cloud.layout import SERVICE_USERS, Layout
from tools.cloud.services import Service
from tools.servers.state import ServerError

SECONDS = 60
POLL_SECONDS = 0.5
NOVA_SERVICES = frozenset({"nova-conductor", "nova-scheduler"})


def check(layout: Layout, services: Mapping[str, Service]) -> None:
    """Ask every API for something that it must read from its database.

    Raises ServerError, naming the log file, for the first that has no answer in time.
    """
    deadline = time.monotonic() + SECONDS
    for name, answered in _questions(connect(layout)).items():
        problem = _problem(answered)
        while problem is not None:
            if time.monotonic() > deadline:
                raise ServerError(f"{name}: {problem}; see {services[name].daemon.log}")
            time.sleep(POLL_SECONDS)
            problem = _problem(answered)


def _questions(cloud: Any) -> dict[str, Callable[[], bool]]:
    return {
        "keystone": lambda: {user.name for user in cloud.identity.users()} >= {*SERVICE_USERS},
        "placement": lambda: cloud.placement.get("/resource_providers").status_code == 200,
        "glance": lambda: _reads(cloud.image.images(limit=1)),
        "neutron": lambda: _reads(cloud.network.networks()),
        "nova-api": lambda: _reads(cloud.compute.servers(limit=1)),
        "nova-conductor": lambda: _up(cloud) >= NOVA_SERVICES,
    }


def _reads(pages: Iterator[object]) -> bool:
    """Whether a first page comes, be it empty; an error is raised."""
    next(pages, None)
    return True


def _problem(answered: Callable[[], bool]) -> str | None:
    try:
        return None if answered() else "does not answer as it should"
    except openstack.exceptions.SDKException as error:
        return str(error)


def _up(cloud: Any) -> set[str]:
    return {item.binary for item in cloud.compute.services() if item.state == "up"}
