"""Runs every static check and says which failed; exit code 1 if any did."""

import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from rich.console import Console

CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
GENERATE_PROTO = [sys.executable, "tools/generate_proto.py"]
CHECKS: dict[str, list[str]] = {
    "style": [str(SCRIPTS / "ruff"), "check", "."],
    "format": [str(SCRIPTS / "ruff"), "format", "--check", "--quiet", "."],
    "types": [str(SCRIPTS / "mypy")],
    "import rules": [str(SCRIPTS / "lint-imports")],
    "protocol": [*GENERATE_PROTO, "--lint"],
    "generated code": [*GENERATE_PROTO, "--check"],
}


def main() -> int:
    """Run the checks one after another; the output of those that pass is not shown."""
    console = Console(highlight=False)
    failed = []
    for name, command in CHECKS.items():
        started = time.monotonic()
        result = subprocess.run(
            command,
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        verdict = "[red]failed[/]" if result.returncode else "[green]ok[/]"
        console.print(f"{name:<16}{verdict}  {time.monotonic() - started:.1f} s")
        if result.returncode:
            failed.append(name)
            print(result.stdout, flush=True)
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
