"""Checks for everything that could keep `vsg-edge run` from working, item by item.

Each item passes, fails with what to do next, or is skipped because one before it failed. Nothing is
changed anywhere: one login to vCenter, one hello to the control plane.
"""

import dataclasses
import datetime
import enum
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping

from common.version import SOFTWARE_VERSION
from edge.appliance.machine import machine_uuid
from edge.commands.inventory_report import read_report
from edge.config import EdgeConfig, ManagedSettings
from edge.errors import BundleError, ConnectedAlreadyError, LinkError, SecretUnreadableError
from edge.link.identity import Identity
from edge.link.link import PROTOCOL_MAXIMUM, PROTOCOL_MINIMUM, Dialer
from edge.link.proxy import Proxy
from edge.link.trial import explain, try_link
from edge.vcenter.client import faults
from edge.vcenter.client.privileges import missing_privileges
from edge.vcenter.client.session import VCenterSession
from vsphere_gateway.v1 import inventory_pb2, link_pb2

CLOCK_TOLERANCE = 60.0
"""Seconds that clocks may differ; beyond it, logs of the two sides are hard to compare."""
EXPIRY_WARNING = datetime.timedelta(days=7)
"""A certificate that expires sooner than this fails the check."""
OLDEST_API = (6, 7)
"""vSphere API version."""
PRIVILEGE_LINES = 8
"""Most objects that the item on privileges names."""


class Outcome(enum.Enum):
    """How an item ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One thing that was checked."""

    name: str
    outcome: Outcome
    detail: str
    """What was found; for a failure also what to do."""


def preflight(config: EdgeConfig, environment: Mapping[str, str] = os.environ) -> Iterator[Item]:
    """Yield the items as they are checked."""
    yield _passed("configuration", str(config.file))
    yield _password(config)
    yield from _vcenter(config)
    yield from _control_plane(config, environment)


def _password(config: EdgeConfig) -> Item:
    name, file = "password", config.vcenter.password.file
    try:
        config.vcenter.read_password()
        mode = file.stat().st_mode
    except (SecretUnreadableError, OSError) as error:
        return _failed(name, str(error))
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
        return _failed(name, f"{file} can be read by other users: chmod 600 {file}")
    return _passed(name, f"{file} is readable, and not by other users")


# vCenter

_VCENTER_ITEMS = (
    "vCenter connection",
    "vCenter certificate",
    "vCenter login",
    "vCenter version",
    "vCenter privileges",
    "vCenter clock",
    "managed clusters",
)


def _vcenter(config: EdgeConfig) -> Iterator[Item]:
    try:
        session = VCenterSession(config.vcenter)
    except faults.VCenterError as error:
        yield _failed("vCenter certificate", f"vcenter.ca_file: {error}")
        return
    try:
        reached, problem = _connect(session)
        names = iter(_VCENTER_ITEMS)
        address = f"{config.vcenter.host}:{config.vcenter.port}"
        for name in _VCENTER_ITEMS[:reached]:
            yield _passed(next(names), f"{address}: {_login_detail(name, config)}")
        if problem:
            yield _failed(next(names), f"{address}: {problem}")
            yield from (_skipped(name, "vCenter cannot be used") for name in names)
            return
        yield _version(session)
        yield from _guarded("vCenter privileges", lambda: _privileges(session, config))
        yield from _guarded("vCenter clock", lambda: _vcenter_clock(session))
        yield from _guarded("managed clusters", lambda: _clusters(session, config))
    finally:
        session.close()


def _connect(session: VCenterSession) -> tuple[int, str]:
    """Log in; return how many of the first three items passed, and what is wrong with the next."""
    try:
        session.connect()
    except faults.CertificateNotTrustedError as error:
        return 1, str(error)
    except (faults.LoginRefusedError, faults.PermissionDeniedError, SecretUnreadableError) as error:
        return 2, str(error)
    except faults.VCenterError as error:
        return 0, str(error)
    return 3, ""


def _login_detail(name: str, config: EdgeConfig) -> str:
    by = "thumbprint" if config.vcenter.thumbprint else config.vcenter.ca_file or "the system"
    return {
        "vCenter connection": "answers",
        "vCenter certificate": f"trusted by {by}",
        "vCenter login": f"as {config.vcenter.username}",
    }[name]


def _version(session: VCenterSession) -> Item:
    about = session.vcenter()
    numbers = tuple(int(part) for part in session.api_version.split(".") if part.isdigit())
    detail = f"{about.full_name}, API {session.api_version}"
    if numbers < OLDEST_API:
        oldest = ".".join(map(str, OLDEST_API))
        return _failed("vCenter version", f"{detail}: expected API {oldest} or newer")
    return _passed("vCenter version", detail)


def _privileges(session: VCenterSession, config: EdgeConfig) -> Item:
    missing = missing_privileges(session, config.managed)
    if not missing:
        return _passed("vCenter privileges", "all privileges that are needed are granted")
    lines = [f"{each.name}: {', '.join(each.privileges)}" for each in missing[:PRIVILEGE_LINES]]
    if more := len(missing) - len(lines):
        lines.append(f"and {more} more objects")
    return _failed(
        "vCenter privileges", f"missing for {config.vcenter.username} on " + "; ".join(lines)
    )


def _vcenter_clock(session: VCenterSession) -> Item:
    instance = inventory_pb2.ObjectReference(type="ServiceInstance", value="ServiceInstance")
    before = time.time()
    moment: datetime.datetime = session.managed_object(instance).CurrentTime()
    return _clock("vCenter clock", moment.timestamp() - (before + time.time()) / 2)


def _clusters(session: VCenterSession, config: EdgeConfig) -> Item:
    name = "managed clusters"
    report = read_report(session, config.managed, machine_uuid())
    managed = sorted(cluster for cluster, is_managed in report.clusters.items() if is_managed)
    shown = ", ".join(sorted(report.clusters)) or "none"
    idle = [
        pattern
        for pattern in config.managed.clusters
        if not any(_only(pattern, config).manages_cluster(each) for each in report.clusters)
    ]
    if idle:
        return _failed(
            name, f"{', '.join(idle)}: nothing matches; the clusters that vCenter shows: {shown}"
        )
    machines = sum(state.HasField("virtual_machine") for state in report.objects.values())
    return _passed(name, f"{', '.join(managed)}: {machines} virtual machines")


def _only(pattern: str, config: EdgeConfig) -> ManagedSettings:
    return dataclasses.replace(config.managed, clusters=(pattern,))


def _guarded(name: str, look: Callable[[], Item]) -> Iterator[Item]:
    try:
        yield look()
    except (faults.VCenterError, SecretUnreadableError) as error:
        yield _failed(name, str(error))


# Control plane


def _control_plane(config: EdgeConfig, environment: Mapping[str, str]) -> Iterator[Item]:
    dialer = Dialer(config.edge.bundle, config.control_plane, environment)
    try:
        identity, proxy = dialer.look_up()
    except (BundleError, SecretUnreadableError) as error:
        yield _failed("bundle", str(error))
        yield _skipped("proxy", "the bundle names the control plane")
        yield _skipped("control plane", "the bundle names the control plane")
        yield _skipped("control plane clock", "the control plane was not reached")
        return
    yield _bundle(identity)
    yield _passed("proxy", f"{proxy}" if proxy else "none; the control plane is reached directly")
    yield from _link(identity, proxy)


def _bundle(identity: Identity) -> Item:
    expiry = identity.material.identity.not_after
    detail = (
        f"edge {identity.name} of customer {identity.bundle.customer}, certificate until "
        f"{expiry:%Y-%m-%d %H:%M} UTC"
    )
    if expiry - datetime.datetime.now(datetime.UTC) < EXPIRY_WARNING:
        return _failed("bundle", f"{detail}: stamp the edge again with `vsg-certs stamp`")
    return _passed("bundle", detail)


def _link(identity: Identity, proxy: Proxy | None) -> Iterator[Item]:
    address = identity.bundle.control_plane
    hello = link_pb2.Hello(
        edge_name=identity.name,
        edge_version=SOFTWARE_VERSION,
        protocol_minimum=PROTOCOL_MINIMUM,
        protocol_maximum=PROTOCOL_MAXIMUM,
    )
    try:
        trial = try_link(identity, proxy, hello)
    except ConnectedAlreadyError:
        yield _passed("control plane", f"{address}: this edge's service is connected")
        yield _passed("control plane clock", "compared by the running service's heartbeats")
        return
    except LinkError as error:
        yield _failed("control plane", str(explain(identity, proxy, error)))
        yield _skipped("control plane clock", "the control plane was not reached")
        return
    yield _passed(
        "control plane",
        f"{address}: version {trial.control_plane_version}, mutual TLS, "
        f"{trial.round_trip * 1000:.0f} ms",
    )
    yield _clock("control plane clock", trial.clock_skew)


def _clock(name: str, ahead: float) -> Item:
    detail = f"{abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} this machine's"
    if abs(ahead) > CLOCK_TOLERANCE:
        return _failed(name, f"{detail}: set both by NTP")
    return _passed(name, detail)


def _passed(name: str, detail: str) -> Item:
    return Item(name, Outcome.PASS, detail)


def _failed(name: str, detail: str) -> Item:
    return Item(name, Outcome.FAIL, detail)


def _skipped(name: str, detail: str) -> Item:
    return Item(name, Outcome.SKIP, detail)
