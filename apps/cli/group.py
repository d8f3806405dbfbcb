"""The group of all commands: it finds them by their files, and imports only the one that runs."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from mue_edge.errors import suggestion

COMMANDS = Path(__file__).parent / "commands"
# The folders of COMMANDS, in the order of the help → their headings there.
GROUPS = {
    "make": "Make a model folder or a bundle",
    "run": "Run a bundle",
    "measure": "Measure and check",
    "apps": "Applications",
    "look": "Look at what there is",
}


class LazyGroup(click.Group):
    """Finds a command `do-it` in commands/GROUP/do_it.py (`do_it_.py` for reserved words).

    Its line in the help is the first one of that file, "`mue-edge do-it`: what it does", read without
    importing anything.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for group in GROUPS for name in files(group))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        for group in GROUPS:
            if name in files(group):
                module = f"{__package__}.commands.{group}.{files(group)[name].stem}"
                command: click.Command = importlib.import_module(module).command
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}{suggestion(name, known)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for group, heading in GROUPS.items():
            with formatter.section(heading):
                rows = [(name.ljust(width), summary(file)) for name, file in files(group).items()]
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        every = sorted(named for group in GROUPS for named in files(group).items())
        items = [CompletionItem(name, help=summary(file)) for name, file in every if name.startswith(incomplete)]
        return items + click.Command.shell_complete(self, ctx, incomplete)


def files(group: str) -> dict[str, Path]:
    """A group's commands by name, with their files."""
    return {
        file.stem.rstrip("_").replace("_", "-"): file
        for file in sorted((COMMANDS / group).glob("*.py"))
        if file.stem != "__init__"
    }


def summary(file: Path) -> str:
    """What a command's file says of it."""
    with file.open(encoding="utf-8") as lines:
        first = lines.readline()
    return first.partition("`: ")[2].strip().removesuffix('"""').rstrip(".")
