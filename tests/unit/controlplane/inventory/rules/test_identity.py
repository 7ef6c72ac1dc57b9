"""Which server a virtual machine is: the instance UUID decides, who was first keeps it."""

from datetime import datetime

import pytest

from controlplane.inventory.rules.cluster_identity import (
    compute_host,
    compute_node_uuid,
    found,
    identity_mismatch,
)
from controlplane.inventory.rules.identity import (
    Bindings,
    Identified,
    IdentityConflicts,
    canonical,
    derived_uuid,
)
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.servers import ServerRow, ServerState

UUID = "4c4c4544-0042-4a10-8056-b7c04f4e3732"
OTHER = "4c4c4544-0042-4a10-8056-b7c04f4e3733"
HERE, THERE = ("vcenter-1", "vm-1"), ("vcenter-2", "vm-9")
NOW = datetime(2026, 11, 22)  # noqa: DTZ001 - as the columns hold it


def _row(place: tuple[str, str], uuid: str = UUID, **values: object) -> ServerRow:
    fields = {
        "uuid": uuid,
        "vcenter_uuid": place[0],
        "moref": place[1],
        "instance_uuid": uuid,
        "cluster_uuid": "cluster",
        "name": "n",
        "origin": "adopted",
        "state": ServerState.ACTIVE,
        "project_id": "p",
        "user_id": "u",
        "derived": False,
        "cpus": 1,
        "memory_mb": 1,
        "disk_gb": 1,
        "adopted_at": NOW,
    }
    return ServerRow(**(fields | values))  # type: ignore[arg-type]


def _bindings(*rows: ServerRow) -> Bindings:
    bindings = Bindings()
    bindings.load(rows)
    return bindings


def test_bound_machine_is_known_and_a_new_one_is_free() -> None:
    bindings = _bindings(_row(HERE))

    assert bindings.identify(HERE, UUID).found is Identified.KNOWN
    new = bindings.identify(THERE, OTHER)
    assert (new.found, new.uuid, new.server) == (Identified.FREE, OTHER, None)


def test_same_uuid_elsewhere_is_a_duplicate_until_the_first_is_gone() -> None:
    bindings = _bindings(_row(HERE))
    assert bindings.identify(THERE, UUID).found is Identified.DUPLICATE

    bindings.put(_row(HERE, state=ServerState.UNMANAGED))

    successor = bindings.identify(THERE, UUID)
    assert (successor.found, successor.uuid) == (Identified.FREE, UUID)
    assert successor.server is not None


def test_two_that_come_at_once_cannot_both_have_a_uuid() -> None:
    bindings = _bindings()
    assert bindings.identify(HERE, UUID).found is Identified.FREE
    assert bindings.identify(THERE, UUID).found is Identified.DUPLICATE

    bindings.release([UUID])
    assert bindings.identify(THERE, UUID).found is Identified.FREE


def test_settled_newcomer_gets_a_derived_uuid_and_keeps_it() -> None:
    bindings = _bindings(_row(HERE))

    settled = bindings.identify(THERE, UUID, derive=True)
    assert (settled.uuid, settled.derived) == (derived_uuid(THERE), True)

    bindings.put(_row(THERE, derived_uuid(THERE), instance_uuid=UUID, derived=True))
    again = bindings.identify(THERE, UUID)
    assert (again.found, again.uuid) == (Identified.KNOWN, derived_uuid(THERE))


def test_reference_that_names_another_machine_displaces_the_old_server() -> None:
    bindings = _bindings(_row(HERE))

    changed = bindings.identify(HERE, OTHER)

    assert (changed.found, changed.uuid) == (Identified.FREE, OTHER)
    assert changed.displaced is not None
    assert changed.displaced.uuid == UUID


def test_servers_of_a_cluster_are_counted() -> None:
    bindings = _bindings(_row(HERE), _row(THERE, OTHER))
    assert bindings.count("cluster") == 2

    bindings.put(_row(HERE, state=ServerState.REMOVED))
    bindings.put(_row(THERE, OTHER, cluster_uuid="second"))

    assert (bindings.count("cluster"), bindings.count("second")) == (0, 1)


def test_uuids_are_written_as_nova_writes_them() -> None:
    assert canonical(UUID.upper()) == UUID
    assert canonical(UUID) == UUID
    assert canonical("not a uuid") == ""
    assert canonical("") == ""


def test_contest_is_settled_when_both_are_confirmed() -> None:
    conflicts = IdentityConflicts()
    assert conflicts.open(THERE, HERE, UUID)
    assert not conflicts.open(THERE, HERE, UUID)

    assert conflicts.confirmed(THERE, UUID) == []
    assert not conflicts.settled(THERE)
    assert conflicts.unconfirmed("vcenter-1") == [HERE]
    assert conflicts.confirmed(HERE, "another") == []
    assert not conflicts.settled(THERE)
    assert conflicts.confirmed(HERE, UUID) == [THERE]

    assert conflicts.settled(THERE)
    assert conflicts.successor(UUID) == THERE
    conflicts.close([(THERE, UUID)])
    assert conflicts.successor(UUID) is None


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("Prod Cluster", "prod-cluster-0a1b2c3d"),
        ("Österreich/West", "osterreich-west-0a1b2c3d"),
        ("東京", "cluster-0a1b2c3d"),
        ("x" * 300, "x" * 40 + "-0a1b2c3d"),
    ],
)
def test_compute_host_is_a_slug_and_eight_characters(name: str, host: str) -> None:
    assert compute_host(name, "0a1b2c3d-0000-4000-8000-000000000000") == host


def test_compute_node_is_the_same_however_often_it_is_made() -> None:
    assert compute_node_uuid("vc", "domain-c8") == compute_node_uuid("vc", "domain-c8")
    assert compute_node_uuid("vc", "domain-c8") != compute_node_uuid("vc", "domain-c9")


def _cluster(name: str = "prod", hosts: tuple[str, ...] = ("a", "b")) -> ClusterRow:
    row = found("vc", "domain-c8", name, "managed", NOW, "0a1b2c3d-0000-4000-8000-000000000000")
    return ClusterRow(**{f: getattr(row, f) for f in row.__slots__} | {"host_uuids": hosts})


def test_only_a_new_name_and_new_hosts_together_raise_doubt() -> None:
    row = _cluster()

    assert not identity_mismatch(row, "renamed", ["a", "b"])
    assert not identity_mismatch(row, "renamed", ["b", "c"])
    assert not identity_mismatch(row, "prod", ["x", "y"])
    assert not identity_mismatch(row, "renamed", [])
    assert "'prod' and is now 'renamed'" in identity_mismatch(row, "renamed", ["x", "y"])
