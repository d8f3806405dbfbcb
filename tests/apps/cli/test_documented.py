"""Commands that the pages for devices tell to type: each is there, with the options that it is given."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from mue_edge.apps.cli.main import group

ROOT = Path(__file__).parents[3]
PAGES = ("first-device", "jetson", "iphone", "android", "phone", "web")
# At the beginning of a line or of code, perhaps after a variable; then all up to a comment or a pipe.
COMMAND = re.compile(r"(?:^|`|=\w+ )mue-edge ([a-z][a-z-]*)\b([^`\n#|>;]*)", re.MULTILINE)


def unknown(text: str) -> list[str]:
    """What a page tells to type and the command line does not have."""
    context, found = click.Context(group), []
    for name, rest in COMMAND.findall(text):
        command = group.get_command(context, name)
        if command is None:
            found.append(f"mue-edge {name}")
            continue
        options = {option for parameter in command.params for option in parameter.opts}
        found += [f"mue-edge {name} {o}" for o in re.findall(r"--[a-z-]+", rest) if o not in options]
    return found


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_are_there(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert COMMAND.search(text) and not unknown(text)


def test_others_are_found() -> None:
    text = "`mue-edge sign BUNDLE` and `mue-edge verify BUNDLE --devices`, `mue-edge verify B --device`"
    assert unknown(text) == ["mue-edge sign", "mue-edge verify --devices"]


def test_tools_of_the_first_device_are_there() -> None:
    text = (ROOT / "docs" / "first-device.md").read_text(encoding="utf-8")
    assert {ROOT / name for name in re.findall(r"python (tools/\w+\.py)", text)} == {ROOT / "tools/gpu_check.py"}
    assert (ROOT / "tools" / "gpu_check.py").is_file()
