"""Shell completion of a command's words; `mue_edge.apps.completion` knows what there is, and is loaded only
when a shell asks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Completed:
    """What completes a word: "targets", "models", "pictures" or "policies"."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        completion = importlib.import_module("mue_edge.apps.completion")
        found: list[CompletionItem] = getattr(completion, self._what)(ctx, param, incomplete)
        return found


TARGETS, MODELS = Completed("targets"), Completed("models")
PICTURES, POLICIES = Completed("pictures"), Completed("policies")
