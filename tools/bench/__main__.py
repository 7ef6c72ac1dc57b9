"""`make bench`: the figures of docs/benchmarks.md, each beside its peer from the same run."""

import argparse
import datetime
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from common.terminal import console_for
from tools.bench import figures, scenario
from tools.bench.figures import Figure
from tools.bench.scenario import CLUSTERS
from tools.cloud.cloud import Cloud
from tools.progress import Steps
from tools.servers import golang, lease
from tools.servers.state import CHECKOUT, Port, ServerError, folder
from tools.servers.vcsim import Vcsim

PAGE = CHECKOUT / "docs" / "benchmarks.md"
SIMULATOR_ENVIRONMENT = {"GOGC": "400"}
"""Its memory is free here, and its processor time is not."""


def main() -> int:
    """Run at each size and write the page after each; 0 when every figure was measured."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--sizes", default="1000", help="virtual machines, separated by commas")
    parser.add_argument(
        "--storm", type=float, default=60.0, metavar="SECONDS", help="0 leaves the storm out"
    )
    options = parser.parse_args()
    console = console_for(sys.stdout)
    measured: list[Figure] = []
    try:
        for figures_of_one in _all(options, console):
            measured += figures_of_one
            _write(measured)
    except ServerError as error:
        console.print(f"bench: {error}", markup=False, style="red")
        return 1
    finally:
        figures.show(console, measured)
    console.print(f"written to {PAGE.relative_to(CHECKOUT)}")
    return 0


def _write(measured: list[Figure]) -> None:
    """Write the page, with figures of other sizes of the same day."""
    now = datetime.datetime.now(datetime.UTC)
    every = figures.with_other_sizes(measured, folder("bench"), f"{now:%Y-%m-%d}")
    figures.write(PAGE, every, now, scenario.NOTES)


def _all(options: argparse.Namespace, console: Console) -> Iterator[list[Figure]]:
    """Yield the figures of one size after the other."""
    with Steps(console) as steps:
        cloud = Cloud()
        with lease.Lease("cloud", lambda: cloud.up(steps), cloud.down):
            for size in (int(one) for one in options.sizes.split(",")):
                with _simulator(size, steps) as vcenter:
                    yield list(scenario.measure(size, vcenter, options.storm, steps))
                with steps.step("purging Nova's rows of deleted servers"):
                    scenario.purge_deleted_servers()


@contextmanager
def _simulator(size: int, steps: Steps) -> Iterator[Vcsim]:
    model = {"dc": 1, "cluster": CLUSTERS, "host": 4, "vm": size // CLUSTERS, "ds": 2, "pg": 1}
    vcenter = Vcsim(
        folder("bench/vcenter"),
        port=Port.BENCH_VCENTER.number,
        program=golang.QUICK_VCSIM,
        environment=SIMULATOR_ENVIRONMENT,
        **model,
    )
    with steps.step(f"a vCenter with {size:,} virtual machines in {CLUSTERS} clusters"):
        vcenter.start()
    try:
        yield vcenter
    finally:
        vcenter.stop()


if __name__ == "__main__":
    sys.exit(main())
