"""What a shell offers when Tab is pressed: targets, policies, bundled models, bundles and folders.

Every command imports this, so what only a shell asks for is imported in the functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from mue_edge.apps.cli import catalogue
from mue_edge.errors import MueEdgeError
from mue_edge.reading import is_file, read_json


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Targets by name."""
    from mue_edge.targets import names

    return _plain(name for name in names() if name.startswith(incomplete))


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Bundled models and folders."""
    names = _bundled(incomplete)
    if not names:
        return _paths(incomplete, "dir")
    folders = [p.name for p in _here() if p.name.startswith(incomplete) and p.is_dir()]
    return _plain(dict.fromkeys((*names, *folders)))


def pictures(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Of a command that takes a bundle, or none, and then pictures."""
    names = [] if ctx.params.get(str(param.name)) else _bundled(incomplete)
    if not names:
        return _paths(incomplete, "file")
    return _plain((*names, *(p.name for p in _here() if p.name.startswith(incomplete))))


def policies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Policies of the bundle that the command names, or of the bundled model's; else files."""
    names = [name for name in _policies(_bundle(ctx)) if name.startswith(incomplete)]
    return _plain(names) or _paths(incomplete, "file")


def _plain(words: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words]


def _paths(incomplete: str, kind: str) -> list[CompletionItem]:
    """The shell itself offers what there is of this kind, "file" or "dir"."""
    return [CompletionItem(incomplete, type=kind)]


def _bundle(ctx: click.Context) -> str:
    """The bundle that the command names so far, or the bundled model."""
    first = next((p for p in ctx.command.params if isinstance(p, click.Argument)), None)
    if first is None or first.name not in ("bundle", "given"):
        return str(ctx.params.get("bundle") or catalogue.DEFAULT)
    # An option that waits for its value leaves the words before it unread.
    words = ctx.params.get(first.name) or ctx.args
    return words if isinstance(words, str) else str(next(iter(words), catalogue.DEFAULT))


def _bundled(incomplete: str) -> list[str]:
    return [name for name in catalogue.BUNDLED if name.startswith(incomplete)]


def _here() -> Iterable[Path]:
    """What is in the current folder, by name, but hidden things."""
    with suppress(OSError):
        return sorted(path for path in Path().iterdir() if not path.name.startswith("."))
    return ()


def _policies(bundle: str) -> list[str]:
    """Names of a front, from the fastest; nothing where a bundle cannot be read."""
    from mue_edge.bundle.manifest import MANIFEST, read_manifest

    with suppress(MueEdgeError, OSError, KeyError, TypeError):
        if is_file(Path(bundle) / MANIFEST):
            return list(read_manifest(Path(bundle)).policies())
        name = bundle if bundle in catalogue.BUNDLED else catalogue.DEFAULT
        written = catalogue.bundled_model(name) / "policies.json"  # what its bundle will have
        return [*(policy["name"] for policy in read_json(written)), "full"]
    return []
