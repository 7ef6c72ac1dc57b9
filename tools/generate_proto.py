"""Generates the Python code of proto/, or checks that what is committed is fresh.

generate_proto.py           write proto/vsphere_gateway/v1/*_pb2.py, *_pb2_grpc.py and .pyi
generate_proto.py --check   write nothing; exit 1 if what is there differs
generate_proto.py --lint    check names, comments and enum zero values with buf
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PROTO = CHECKOUT / "proto"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
LINT_CONFIG = CHECKOUT / "proto" / "buf.yaml"


def sources() -> list[str]:
    """The .proto files, relative to proto/, in a stable order."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


def protoc(*arguments: str) -> None:
    """Run the protoc of grpcio-tools over every source; exits with its status on an error."""
    import grpc_tools

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    site_packages = sysconfig.get_path("purelib")
    # protoc finds its plugins, protoc-gen-mypy and protoc-gen-mypy_grpc, by PATH.
    environment = os.environ | {
        "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}"
    }
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={PROTO}",
            f"--proto_path={well_known}",
            f"--proto_path={site_packages}",
            *arguments,
            *sources(),
        ],
        env=environment,
        check=False,
    )
    if result.returncode:
        sys.exit(result.returncode)


def generate(folder: Path) -> None:
    """Write messages, servicers and their types below folder."""
    protoc(
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        f"--mypy_out=quiet:{folder}",
        f"--mypy_grpc_out=quiet:{folder}",
    )


def generated(folder: Path) -> dict[str, bytes]:
    """Generated files below folder by relative path."""

    def paths() -> Iterator[Path]:
        for pattern in GENERATED:
            yield from folder.rglob(pattern)

    return {str(path.relative_to(folder)): path.read_bytes() for path in paths()}


def stale() -> list[str]:
    """Generated files that are missing, outdated or left over, relative to proto/."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        wanted = generated(Path(folder))
    present = generated(PROTO)
    return sorted(
        name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name)
    )


def write() -> None:
    """Bring the generated files up to date; files that did not change keep their time."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        wanted = generated(Path(folder))
    present = generated(PROTO)
    for name in present.keys() - wanted.keys():
        (PROTO / name).unlink()
    for name, content in wanted.items():
        if present.get(name) != content:
            (PROTO / name).write_bytes(content)


def lint() -> int:
    """Check the sources with buf, over a descriptor set so that nothing is downloaded."""
    buf = Path(sysconfig.get_path("scripts")) / "buf"
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.binpb"
        protoc(
            f"--descriptor_set_out={image}",
            "--include_imports",
            "--include_source_info",
        )
        return subprocess.run(
            [buf, "lint", str(image), "--config", str(LINT_CONFIG)], check=False
        ).returncode


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only say what is not fresh")
    what.add_argument("--lint", action="store_true", help="check the .proto files themselves")
    arguments = parser.parse_args()
    if arguments.lint:
        return lint()
    if arguments.check:
        names = stale()
        for name in names:
            print(f"proto/{name} is not what its .proto says: run make proto", file=sys.stderr)
        return 1 if names else 0
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
