"""The help and the group of commands: every command is there, in a group, with a line that is not cut, and
nothing of it is imported for that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mue_edge.apps.cli.group import COMMANDS, GROUPS, files, summary
from mue_edge.apps.cli.main import group
from tests.apps.cli.run import Runner

ROOT = Path(__file__).resolve().parents[3]
# What a process has imported once it has printed its help, or what Tab offers.
IMPORTED = """
import sys
from mue_edge.apps.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""
EVERY = {name: file for each in GROUPS for name, file in files(each).items()}


def test_every_folder_of_commands_is_a_group() -> None:
    assert {folder.name for folder in COMMANDS.iterdir() if (folder / "__init__.py").is_file()} == set(GROUPS)
    assert len(EVERY) == sum(len(files(each)) for each in GROUPS)  # a name stands in one group


def test_every_command_has_a_line_in_its_group(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run("--help").out
    for number, (each, heading) in enumerate(GROUPS.items()):
        following = [*GROUPS.values(), ""][number + 1]
        section = text.partition(f"\n{heading}:\n")[2].partition(f"\n{following}:\n")[0]
        rows = [line.split(maxsplit=1) for line in section.strip().splitlines()]
        assert rows == [[name, summary(file)] for name, file in files(each).items()]


def test_names_are_those_of_the_commands() -> None:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None and command.name == name
        first = EVERY[name].read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith(f'"""`mue-edge {name}`: ') and first.endswith('."""')


@pytest.mark.parametrize("words", [("--help",), ("--version",), None], ids=["help", "version", "completion"])
def test_no_command_is_imported_for_the_help(words: tuple[str, ...] | None) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if words is None:
        environment |= {"_MUE_EDGE_COMPLETE": "bash_complete", "COMP_WORDS": "mue-edge ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *(words or ())], env=environment, capture_output=True, text=True, check=False
    )
    assert words != ("--help",) or "alt-text" in done.stdout
    assert words is not None or done.stdout.splitlines()[:2] == ["plain,alt-text", "plain,bench"]
    modules = done.stderr.split()
    assert "mue_edge.apps.cli.group" in modules
    assert not [m for m in modules if m.startswith(("mue_edge.apps.cli.commands", "numpy", "PIL"))]


def test_an_option_has_one_name_and_a_name_one_option() -> None:
    context = click.Context(group)
    names: dict[str, set[str]] = {}
    options: dict[str, set[str]] = {}
    for command in (group.get_command(context, name) for name in EVERY):
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                names.setdefault(parameter.opts[-1], set()).add(str(parameter.name))
                options.setdefault(str(parameter.name), set()).add(parameter.opts[-1])
    assert len(options) > 80
    assert {k: v for k, v in (names | options).items() if len(v) > 1} == {}
