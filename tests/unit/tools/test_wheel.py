"""The wheel of this tree has all that an installation runs, and the README names it."""

import configparser
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.servers.state import CHECKOUT

NOT_INSTALLED = frozenset({"tests", "tools"})


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel as `make wheel` builds it."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*command, "--directory", directory], cwd=CHECKOUT, check=True, capture_output=True
    )
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel puts into site-packages."""
    directory = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


def product_packages() -> list[Path]:
    """Return every package of the tree that is no tool of ours, also one that is new."""
    places = [*CHECKOUT.iterdir(), *(CHECKOUT / "proto").iterdir()]
    return [
        place
        for place in places
        if (place / "__init__.py").exists() and place.name not in NOT_INSTALLED
    ]


def entry_points(installed: Path) -> dict[str, str]:
    (file,) = installed.glob("*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read_string(file.read_text())
    return dict(parser["console_scripts"])


def run_installed(installed: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with what is installed and other people's packages, and nothing of the tree."""
    path: Sequence[str] = (str(installed), sysconfig.get_path("purelib"))
    return subprocess.run(
        # -S: the .pth file of this tree is not read.
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {path!r}; {code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
    )


def test_every_file_of_every_package_is_in_the_wheel(installed: Path) -> None:
    packages = product_packages()
    assert {"edge", "controlplane", "certs", "common", "vsphere_gateway"} <= {
        package.name for package in packages
    }
    missing = [
        str(file.relative_to(CHECKOUT))
        for package in packages
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
        if not (installed / file.relative_to(package.parent)).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("command", ["vsg-edge", "vsg-controlplane", "vsg-certs"])
def test_commands_run_from_the_wheel_alone(installed: Path, command: str) -> None:
    module, function = entry_points(installed)[command].split(":")
    done = run_installed(
        installed, f"from {module} import {function}; sys.argv[1:] = ['--help']; {function}()"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {command}")


def test_every_command_has_its_function(installed: Path) -> None:
    points = entry_points(installed)
    assert set(points) == {"vsg-edge", "vsg-controlplane", "vsg-compute", "vsg-certs"}
    imports = "; ".join(
        f"from {module} import {function}"
        for module, function in (point.split(":") for point in points.values())
    )
    done = run_installed(installed, f"{imports}; print(sys.modules['certs'].__path__[0])")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == installed / "certs"


def test_own_tables_are_made_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'own.db'}"
    config = tmp_path / "controlplane.conf"
    config.write_text(f"[database]\nconnection = {url}\n")
    arguments = ["db", "upgrade", "--config-file", str(config)]
    done = run_installed(
        installed, f"from controlplane.__main__ import main; sys.exit(main({arguments!r}))"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own.db").stat().st_size


def test_readme_installs_the_wheel_that_is_built(wheel: Path, installed: Path) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    (metadata,) = installed.glob("*.dist-info/METADATA")
    for extra in ("edge", "controlplane"):
        assert f"{wheel.name}[{extra}]'" in readme
        assert f"Provides-Extra: {extra}\n" in metadata.read_text()
