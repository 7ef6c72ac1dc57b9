"""Which virtual machines become servers, and whose they are."""

from pathlib import Path

import pytest

from controlplane.config.settings import AdoptionSettings
from controlplane.domain.errors import ConfigurationError
from controlplane.domain.records import Policy
from controlplane.inventory.rules.adoption import (
    Adoption,
    ProjectRule,
    machine_policy,
    never_adopted,
)
from vsphere_gateway.v1 import inventory_pb2

Machine = inventory_pb2.VirtualMachine


def _adoption(*rules: str, **settings: object) -> Adoption:
    return Adoption.from_settings(
        AdoptionSettings(
            default_project_id="default", default_user_id="user", rules=rules, **settings
        )
    )


def test_first_rule_that_fits_decides_the_project() -> None:
    adoption = _adoption("folder:/DC0/web=web", "tag:owner:shop=shop", "attribute:team=blue=blue")
    tagged = Machine(tags=["owner:shop"])
    attributed = Machine(custom_attributes=[inventory_pb2.NamedValue(name="team", value="blue")])

    assert adoption.project(Machine(), "DC0/web") == "web"
    assert adoption.project(Machine(), "DC0/web/front/eu") == "web"
    assert adoption.project(Machine(), "DC0/webshop") == "default"
    assert adoption.project(tagged, "DC0/other") == "shop"
    assert adoption.project(tagged, "DC0/web") == "web"
    assert adoption.project(attributed, "") == "blue"


def test_rules_of_a_file_follow_those_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "rules"
    file.write_text("# comment\n\nfolder:/*/lab=lab\n")

    adoption = _adoption("folder:/DC0/lab/own=own", rules_file=str(file))

    assert adoption.project(Machine(), "DC0/lab/own") == "own"
    assert adoption.project(Machine(), "DC7/lab") == "lab"


@pytest.mark.parametrize("text", ["web=1", "folder:=1", "folder:/x=", "attribute:team=p", ""])
def test_wrong_rule_is_named_with_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected .*project, found") as caught:
        _adoption(text)
    assert (caught.value.section, caught.value.key) == ("adoption", "rules")


def test_missing_rules_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        _adoption(rules_file=str(tmp_path / "nowhere"))


def test_policy_of_a_cluster_by_name() -> None:
    adoption = _adoption(policy="locked", cluster_policy=("lab-*=managed", "prod=listed"))

    assert adoption.cluster_policy("lab-7") is Policy.MANAGED
    assert adoption.cluster_policy("prod") is Policy.LISTED
    assert adoption.cluster_policy("else") is Policy.LOCKED
    with pytest.raises(ConfigurationError, match="CLUSTER=POLICY"):
        _adoption(cluster_policy=("prod=free",))


def test_what_the_site_protects_is_at_least_listed() -> None:
    assert machine_policy(Policy.MANAGED, Machine(protected_by_site=True)) is Policy.LISTED
    assert machine_policy(Policy.LOCKED, Machine()) is Policy.LOCKED


def test_agents_secondaries_and_placeholders_are_never_adopted() -> None:
    agent = Machine(managed_by=inventory_pb2.ManagedBy(extension_key="com.vmware.vim.eam"))

    assert "com.vmware.vim.eam" in never_adopted(agent)
    assert never_adopted(Machine(fault_tolerance_role=2))
    assert never_adopted(Machine(placeholder=True))
    assert not never_adopted(Machine(fault_tolerance_role=1))


def test_image_is_its_projects_own_or_everybodys_here() -> None:
    adoption = Adoption("default", "user", (ProjectRule.parse("folder:/DC0/web=web"),))

    assert adoption.image_access(Machine(), "DC0/web") == ("web", frozenset())
    assert adoption.image_access(Machine(), "DC0/all") == ("default", frozenset({"web"}))
