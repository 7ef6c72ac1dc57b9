"""Debian packages that a server needs."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.servers.process import run
from tools.servers.state import ServerError, folder, locked

# Debian asks this program whether an installed service may start (policy-rc.d(8)).
START_POLICY = Path("/usr/sbin/policy-rc.d")
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "-y", "-q")


def ensure(program: str, *packages: str) -> Path:
    """Path of a program, after installing its packages where it is missing.

    Raises ServerError if it is missing and cannot be installed.
    """
    with locked("apt"):
        found = find(program)
        if found is None:
            _install(packages)
            found = find(program)
    if found is None:
        raise ServerError(f"{program} is missing although {', '.join(packages)} is installed")
    return found


def find(program: str) -> Path | None:
    """Path of an installed program; servers are often outside an ordinary user's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib/rabbitmq/bin"])
    found = shutil.which(program, path=path)
    return Path(found) if found else None


def _install(packages: tuple[str, ...]) -> None:
    wanted = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise ServerError(f"please install what Debian calls {wanted}")
    if os.geteuid() != 0:
        raise ServerError(f"as root, please run: apt-get install --no-install-recommends {wanted}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    logs = folder("logs")
    run([*APT, "update"], logs / "apt-update.log", quiet)
    with _services_stay_stopped():
        run(
            [*APT, "install", "--no-install-recommends", *packages],
            logs / f"apt-install-{packages[0]}.log",
            quiet,
        )


@contextmanager
def _services_stay_stopped() -> Iterator[None]:
    """Keep the packages from starting servers of the whole machine: ours run on their own."""
    if START_POLICY.exists():
        yield
        return
    START_POLICY.write_text("#!/bin/sh\nexit 101\n")
    START_POLICY.chmod(0o755)
    try:
        yield
    finally:
        START_POLICY.unlink()


def version(program: Path, *arguments: str) -> str:
    """First line that a program prints about its version."""
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()[0]
