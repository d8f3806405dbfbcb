"""Options that a command takes as one value."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from mue_edge.apps.cli.options import option, parse_share, shared, takes
from mue_edge.errors import UsageError

SIZE = click.option("--size", type=int, default=3)


@dataclass(frozen=True)
class Base:
    size: int = shared(SIZE)


@dataclass(frozen=True)
class Options(Base):
    name: str = shared(click.argument("name"))
    kind: str | None = option("Of it.", "--format")
    several: tuple[int, ...] = option("Numbers.")
    flag: bool = option("A flag.", "-f", "--flag")
    either: bool = option("Or not.", "--either/--neither", default=True)
    one: Literal["a", "b"] = option(default="a")


@dataclass(frozen=True)
class Wrong:
    size: int = shared(click.option("--length"))


@click.command()
@takes(Options)
@click.option("--hidden", is_flag=True, expose_value=False)
def command(o: Options) -> None:
    """Prints them."""
    click.echo(repr(o))


def test_the_command_gets_them_as_one() -> None:
    done = CliRunner().invoke(command, ["x", "--format", "csv", "--hidden"])
    rest = "several=(), flag=False, either=True, one='a'"
    assert done.output == f"Options(size=3, name='x', kind='csv', {rest})\n"
    done = CliRunner().invoke(command, shlex.split("x --several 1 --several 2 -f --neither --one b"))
    rest = "several=(1, 2), flag=True, either=False, one='b'"
    assert done.output == f"Options(size=3, name='x', kind=None, {rest})\n"
    for wrong in ("--size", "--several", "--one"):
        assert CliRunner().invoke(command, ["x", wrong, "y"]).exit_code == 2


def test_help_has_them_in_order() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    assert text.index("Prints them.") < text.index("--size") < text.index("--format") < text.index("--hidden")


def test_a_shared_name_that_is_no_field_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="length"):
        CliRunner().invoke(click.command()(takes(Wrong)(print)), [], catch_exceptions=False)


@pytest.mark.parametrize(("text", "value"), [("3%", 0.03), ("0.03", 0.03), (" 50 %", 0.5)])
def test_shares(text: str, value: float) -> None:
    assert parse_share("--drop", text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["3", "0%", "100%", "three", "", "nan"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UsageError, match=r"--drop '.*' is no share between 0 and 1"):
        parse_share("--drop", text)
