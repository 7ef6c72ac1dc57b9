"""The programs of `make` write plain text into a pipe, and let no table be cut on a terminal."""

import io
import shlex
import sys

import pytest
from rich.console import Console

from common.terminal import console_for
from tools import quickstart
from tools.demo.shell import Shell
from tools.demo.stage import Stage
from tools.progress import Steps

WIDTHS = "import os; print(os.environ.get('COLUMNS'), os.environ.get('CLIFF_MAX_TERM_WIDTH'))"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("CLIFF_MAX_TERM_WIDTH", raising=False)


def test_steps_in_a_pipe_are_lines_without_spinners_or_colours() -> None:
    pipe = io.StringIO()
    with Steps(console_for(pipe)) as steps, steps.step("certificates"):
        pass
    first, second = pipe.getvalue().splitlines()
    assert first == "certificates ..."
    assert second.startswith("certificates: done in ")


def test_steps_show_long_names_whole_on_a_narrow_terminal() -> None:
    screen = io.StringIO()
    name = "a vCenter with 2 clusters, 5 virtual machines and a template"
    console = Console(file=screen, force_terminal=True, width=50, color_system=None)
    with Steps(console) as steps, steps.step(name):
        pass
    assert "…" not in screen.getvalue()
    assert "template" in screen.getvalue()


def test_quickstart_lists_plain_lines_in_a_pipe_and_tables_on_a_terminal() -> None:
    assert "--format plain" in quickstart.listing("edges", on_terminal=False)
    assert "--format table" in quickstart.listing("edges", on_terminal=True)


def test_a_shell_in_a_pipe_writes_what_the_command_wrote() -> None:
    pipe = io.StringIO()
    shell = Shell(console_for(pipe), {})
    shell.heading("edges [all]")
    shell.show(f"{sys.executable} -c {shlex.quote(WIDTHS)}")
    assert pipe.getvalue().splitlines()[1] == "== edges [all]"
    assert pipe.getvalue().splitlines()[-1] == "None None"
    assert "\x1b" not in pipe.getvalue()


def test_commands_of_the_tour_know_the_terminals_width() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    assert Shell(console, {}).read(f"{sys.executable} -c {shlex.quote(WIDTHS)}") == "100 100\n"


def test_the_demos_environment_has_openstack_fit_its_tables() -> None:
    assert Stage().environment()["CLIFF_FIT_WIDTH"] == "1"
