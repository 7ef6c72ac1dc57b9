"""`vsg-controlplane verify` between a real edge, vCenter, Nova, Glance and placement."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy

from tests.support.demo_site import PLACE, DemoSite
from tests.support.waiting import eventually
from tools.cloud.cloud import Cloud
from tools.demo.controlplane import PROGRAM
from tools.demo.vcenter import MACHINES, TEMPLATE
from tools.servers.state import folder

pytestmark = pytest.mark.cloud

PATIENCE_SECONDS = 150


def verify() -> tuple[int, dict[str, Any]]:
    """Return the exit code of the command, and its document."""
    config = folder(PLACE) / "controlplane.conf"
    command = [PROGRAM, "verify", "--config-file", config, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def named(document: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(one["name"], one["place"], one["field"]) for one in document["differences"]}


def same() -> dict[str, Any]:
    """Verify until nothing differs: what was tampered with heals, or was put back."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    code, document = verify()
    while code:
        assert time.monotonic() < deadline, document["differences"] or document["vcenters"]
        code, document = verify()
    return document


@pytest.fixture
def change(cloud: Cloud) -> Callable[..., None]:
    """Runs a statement in one of OpenStack's databases; it must change one row."""

    def run(database: str, statement: str, **values: Any) -> None:
        engine = sqlalchemy.create_engine(cloud.layout.database_url(database))
        with engine.begin() as connection:
            assert connection.execute(sqlalchemy.text(statement), values).rowcount == 1
        engine.dispose()

    return run


def test_nothing_differs_after_discovery(site: DemoSite) -> None:
    document = same()
    assert document["differences"] == []
    assert [one["verified"] for one in document["vcenters"]] == [True]
    compared = document["compared"]
    assert compared["nova-cell"]["server"] >= len(MACHINES)
    assert compared["nova-api"]["server"] >= len(MACHINES)
    assert compared["placement"]["allocation"] >= len(MACHINES)
    assert compared["glance"]["image"] == 1
    assert compared["nova-cell"]["compute_host"] == 2
    assert compared["vcenter"]["virtual_machine"] == compared["own"]["virtual_machine"]


def test_row_of_nova_that_was_changed_is_named(site: DemoSite, change: Callable[..., None]) -> None:
    server = site.server("web-1")
    statement = "UPDATE instance_mappings SET project_id = :project WHERE instance_uuid = :uuid"
    change("nova_api", statement, project="f" * 32, uuid=server.id)
    code, document = verify()
    change("nova_api", statement, project=server.project_id, uuid=server.id)
    assert code == 1
    assert named(document) == {("web-1", "nova-api", "instance_mappings.project_id")}
    (difference,) = document["differences"]
    assert (difference["expected"], difference["found"]) == (server.project_id, "f" * 32)
    statement = (
        "UPDATE instance_system_metadata SET value = :value WHERE instance_uuid = :uuid"
        " AND `key` = 'image_disk_format'"
    )
    change("nova_cell1", statement, value="raw", uuid=server.id)
    code, document = verify()
    change("nova_cell1", statement, value="vmdk", uuid=server.id)
    field = "instance_system_metadata.image_disk_format"
    assert (code, named(document)) == (1, {("web-1", "nova-cell", field)})
    same()


def test_row_of_glance_that_was_changed_is_named(
    site: DemoSite, change: Callable[..., None]
) -> None:
    (image,) = list(site.openstack.image.images(name=TEMPLATE))
    statement = "UPDATE images SET min_disk = :value WHERE id = :id"
    verified = threading.Event()

    def tamper() -> None:
        # The control plane heals an image when its turn comes: it is altered again and again.
        while not verified.wait(0.2):
            change("glance", statement, value=4711, id=image.id)

    change("glance", statement, value=4711, id=image.id)
    tampering = threading.Thread(target=tamper)
    tampering.start()
    code, document = verify()
    verified.set()
    tampering.join()
    change("glance", statement, value=image.min_disk, id=image.id)
    assert (code, named(document)) == (1, {(TEMPLATE, "glance", "images.min_disk")})
    same()


def test_allocation_that_was_removed_is_named(site: DemoSite) -> None:
    server = site.server("web-1")
    placement = site.openstack.placement
    headers = {"OpenStack-API-Version": "placement 1.38"}
    path = f"/allocations/{server.id}"
    before = placement.get(path, headers=headers).json()
    assert placement.delete(path).status_code == 204
    code, document = verify()
    before["consumer_generation"] = None
    assert placement.put(path, json=before, headers=headers).status_code == 204
    assert (code, named(document)) == (1, {("web-1", "placement", "allocations")})
    same()


def test_changes_of_vcenter_under_way_are_no_differences(site: DemoSite) -> None:
    site.make("restless")
    command = [PROGRAM, "verify", "--config-file", folder(PLACE) / "controlplane.conf"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        states = ("-on", "-off")
        rounds = 0
        while process.poll() is None:
            site.vcenter.govc("vm.power", states[rounds % 2], "restless")
            rounds += 1
        assert process.stdout is not None
        printed = process.stdout.read()
    site.vcenter.govc("vm.destroy", "restless")
    eventually(lambda: site.server("restless"), None, 60)
    assert process.returncode == 0, printed
    assert rounds > 1
    assert "Differences: 0." in printed


def test_vcenter_without_its_edge_cannot_be_verified(site: DemoSite) -> None:
    site.deployment.edge.stop()
    try:
        code, document = verify()
        assert code == 3
        (vcenter,) = [one for one in document["vcenters"] if not one["verified"]]
        assert vcenter["reason"]
    finally:
        site.deployment.edge.start()
        site.deployment.wait_for_workers(120)
    same()
