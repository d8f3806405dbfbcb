"""What 0.1 wrote, as the present schema has it: policies and manifests. Nothing else knows the old form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mue_edge.errors import InputFileError

# The stacks of 0.1's policies, each a suffix of `theta_`, `thetas_` and `depth_`.
_STACKS = ("image", "text", "decoder")
_FIELDS = ("theta", "thetas", "depth")
# What `stacks` stands for.
_LAYOUT = ("encoder", "decoder", "prompt_gaps", "joins_text")


def policy(data: Mapping[str, Any]) -> dict[str, Any]:
    """A policy: its nine fields of one stack each become `exits`."""
    old = {f"{field}_{stack}": (stack, field) for stack in _STACKS for field in _FIELDS}
    exits: dict[str, dict[str, Any]] = {}
    for key, (stack, field) in old.items():
        if key in data:
            exits.setdefault(stack, {})[field] = data[key]
    rest = {key: value for key, value in data.items() if key not in old}
    return {"schema": 2, **rest} | ({"exits": exits} if exits else {})


def manifest(data: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle's manifest: its layout's stacks become a list that says where each one's input comes from.

    Raises InputFileError for a layout that has another form.
    """
    layout = data.get("layout")
    if not isinstance(layout, dict) or not isinstance(layout.get("encoder"), dict):
        raise InputFileError("the manifest has schema 1, its layout not")
    rest = {key: value for key, value in layout.items() if key not in _LAYOUT}
    stacks: list[dict[str, Any]] = []
    for name, stages in layout["encoder"].items():
        stem, source = ("text_stem", "text") if name == "text" else ("stem", "picture")
        stack = {"name": name, "source": source, "stem": stem, "stages": stages, "trained": name != "encoder"}
        joins = source == "picture" and layout.get("joins_text") is True
        stacks.append(stack | ({"joins": "text_stem"} if joins else {}))
    if layout.get("prompt_gaps"):
        stacks.append({"name": "text", "source": "constant", "distances": layout["prompt_gaps"]})
    stacks.append({"name": "decoder", "source": "words", "stem": "embed", "stages": layout.get("decoder")})
    scale = data.get("preprocess")
    if isinstance(scale, dict):  # one mean and one std for all channels
        single = {k: [v] * 3 for k, v in scale.items() if k in ("mean", "std") and type(v) in (int, float)}
        scale = scale | single
    return {**data, "schema": 2, "layout": {"stacks": stacks, **rest}, "preprocess": scale}
