"""Which virtual machines become servers, whose they are, and what may be done with them. Pure."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from controlplane.config.settings import AdoptionSettings
from controlplane.domain.errors import ConfigurationError
from controlplane.domain.records import Policy
from vsphere_gateway.v1 import inventory_pb2

SECONDARY_ROLE = 2
"""vim.vm.FaultToleranceConfigInfo.role: 1 is the primary, greater ones are its copies."""


class RuleKind(Enum):
    """What a rule looks at."""

    FOLDER = "folder"
    """The folder's path, datacenter first, and everything below it."""
    TAG = "tag"
    """A tag as `category:name`."""
    ATTRIBUTE = "attribute"
    """A custom attribute as `name=value`."""


@dataclass(frozen=True, slots=True)
class ProjectRule:
    """One line of the rules that say whose a virtual machine is. Patterns are globs."""

    kind: RuleKind
    pattern: str
    project_id: str

    @classmethod
    def parse(cls, text: str) -> "ProjectRule":
        """Read `folder:/DC0/web=<project>`, `tag:owner:web=...` or `attribute:team=web=...`.

        Raises ``ValueError`` with what was expected.
        """
        head, separator, project_id = text.strip().rpartition("=")
        name, colon, pattern = head.partition(":")
        kinds = {kind.value: kind for kind in RuleKind}
        if not (separator and colon and project_id.strip() and pattern and name in kinds):
            raise ValueError(
                "expected folder:/path=project, tag:category:name=project or "
                f"attribute:name=value=project, found {text!r}"
            )
        if name == RuleKind.ATTRIBUTE.value and "=" not in pattern:
            raise ValueError(f"expected attribute:name=value=project, found {text!r}")
        return cls(kinds[name], pattern.strip().strip("/"), project_id.strip())

    def fits(self, machine: inventory_pb2.VirtualMachine, folder_path: str) -> bool:
        """Whether the rule names this virtual machine."""
        if self.kind is RuleKind.FOLDER:
            return _below(folder_path, self.pattern)
        if self.kind is RuleKind.TAG:
            return any(fnmatch.fnmatchcase(tag, self.pattern) for tag in machine.tags)
        pairs = (f"{one.name}={one.value}" for one in machine.custom_attributes)
        return any(fnmatch.fnmatchcase(pair, self.pattern) for pair in pairs)


@dataclass(frozen=True, slots=True)
class Adoption:
    """The provider's choices."""

    default_project_id: str
    user_id: str
    rules: tuple[ProjectRule, ...] = ()
    policy: Policy = Policy.MANAGED
    cluster_policies: tuple[tuple[str, Policy], ...] = ()
    """Globs over cluster names; the first that fits decides."""

    @classmethod
    def from_settings(cls, settings: AdoptionSettings) -> "Adoption":
        """Read the section ``[adoption]``. Raises ``ConfigurationError``."""
        return cls(
            default_project_id=settings.default_project_id,
            user_id=settings.default_user_id,
            rules=_rules(settings),
            policy=Policy(settings.policy),
            cluster_policies=tuple(_cluster_policy(text) for text in settings.cluster_policy),
        )

    def project(self, machine: inventory_pb2.VirtualMachine, folder_path: str) -> str:
        """Whose a virtual machine is: the first rule that fits, else the default."""
        return self._ruled(machine, folder_path) or self.default_project_id

    def cluster_policy(self, cluster_name: str) -> Policy:
        """What may be done with the servers of a cluster."""
        for pattern, policy in self.cluster_policies:
            if fnmatch.fnmatchcase(cluster_name, pattern):
                return policy
        return self.policy

    def image_access(
        self, template: inventory_pb2.VirtualMachine, folder_path: str
    ) -> tuple[str, frozenset[str]]:
        """A template's owner and the other projects that see its image.

        A template that a rule names is its project's own; any other is for every project here.
        """
        owner = self._ruled(template, folder_path)
        if owner:
            return owner, frozenset()
        others = {rule.project_id for rule in self.rules} - {self.default_project_id}
        return self.default_project_id, frozenset(others)

    def _ruled(self, machine: inventory_pb2.VirtualMachine, folder_path: str) -> str:
        return next((rule.project_id for rule in self.rules if rule.fits(machine, folder_path)), "")


def never_adopted(machine: inventory_pb2.VirtualMachine) -> str:
    """Why a virtual machine never becomes a server; empty when it may."""
    if machine.placeholder:
        return "a placeholder of Site Recovery Manager"
    if machine.HasField("managed_by"):
        return f"managed by {machine.managed_by.extension_key}"
    if machine.fault_tolerance_role >= SECONDARY_ROLE:
        return "a Fault Tolerance secondary"
    return ""


def machine_policy(cluster_policy: Policy, machine: inventory_pb2.VirtualMachine) -> Policy:
    """What may be done with one server: what the site protects is at least listed."""
    return Policy.LISTED if machine.protected_by_site else cluster_policy


def _rules(settings: AdoptionSettings) -> tuple[ProjectRule, ...]:
    rules = [_rule(text, key="rules") for text in settings.rules]
    if settings.rules_file:
        rules += [_rule(line, key="rules_file") for line in _lines(settings.rules_file)]
    return tuple(rules)


def _rule(text: str, *, key: str) -> ProjectRule:
    try:
        return ProjectRule.parse(text)
    except ValueError as error:
        raise ConfigurationError(str(error), section="adoption", key=key) from error


def _lines(file: str) -> Iterable[str]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}", section="adoption", key="rules_file"
        ) from error
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _cluster_policy(text: str) -> tuple[str, Policy]:
    name, _, policy = text.rpartition("=")
    choices = [one.value for one in Policy]
    if not name.strip() or policy.strip() not in choices:
        raise ConfigurationError(
            f"expected CLUSTER=POLICY with a policy of {', '.join(choices)}, found {text!r}",
            section="adoption",
            key="cluster_policy",
        )
    return name.strip(), Policy(policy.strip())


def _below(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")
