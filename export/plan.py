"""What is compiled in: image size, precision, boundaries, beam. The input of export, and hashed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.search import SearchSettings
from mue_edge.models import describe, family_of
from mue_edge.models.cut import CutRequest
from mue_edge.models.family import Description
from mue_edge.reading import read_json
from mue_edge.targets import Target

# A boundary after every layer; or none at all, which is full depth only: what exits are compared with.
NAMED = ("per-layer", "whole")
# Fewer words gain little: at some 2,000 the plain head is as fast as the screened one.
SCREENED_WORDS = 8_000


@dataclass(frozen=True)
class Plan:
    """`ends`: stack → layers after which a segment ends (a test may stop there); empty means the
    target's default. `fill_rows` pending rows are filled in one call, `verify_rows` drafts checked in one (0:
    none can be). `backend` is what the runtime hands segments to; empty where the target has no choice.
    `text_length` tokens of a source text that comes with the picture; 0 where the text is constant.
    `screened`: 8-bit logits choose the words whose exact ones the head computes (`export/onnx/screened.py`)."""

    height: int
    width: int
    precision: str = "fp32"
    backend: str = ""
    ends: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    beam: int = 1
    max_length: int = 16
    min_length: int = 1
    no_repeat_ngram: int = 3
    length_penalty: float = 1.0
    fill_rows: int = 4
    verify_rows: int = 0
    task: str = "caption"
    text_length: int = 0
    screened: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON data with every field, so that the hash does not depend on defaults; what came later than the
        first bundles is left out where it is off."""
        later = ("verify_rows", "text_length", "screened")
        return {k: schema.encode(v) for k, v in vars(self).items() if k not in later or v}


def default_ends(model: Any, target: Target) -> dict[str, tuple[int, ...]]:
    """A boundary after every layer where calls are cheap, else the target's number of segments; one segment
    for a stack that was not trained to be left early."""
    ends = {}
    for stack, shape in family_of(model).stacks(model).items():
        depth = shape.layers
        grouped = min(depth, target.segments.get(stack, depth))
        count = depth if target.calls == "per-layer" else grouped
        if not shape.trained:
            count = 1
        ends[stack] = tuple(round(depth * (i + 1) / count) for i in range(count))
    return ends


def read(path: str | Path) -> dict[str, Any]:
    """The JSON object of a plan file, or a named plan, as options for `make`."""
    if str(path) in NAMED:
        return {"ends": str(path)}
    try:
        data = read_json(path)
    except InputFileError as problem:
        raise InputFileError(f"no plan: {problem}; plans known by name: {', '.join(NAMED)}") from problem
    if not isinstance(data, dict):
        raise InputFileError(f"{path} is not a JSON object")
    return data


def make(model: Any, target: Target, size: tuple[int, int], options: Mapping[str, Any]) -> Plan:
    """A complete plan for a model and a target; `options` (a plan file, the command line) override. Instead
    of boundaries, "ends" may be a name of NAMED. Raises UsageError or InputFileError for what the target or
    the model cannot do."""
    defaults: dict[str, Any] = {"height": size[0], "width": size[1], "precision": target.precisions[0]}
    options = defaults | dict(options)
    if isinstance(options.get("ends"), str):
        options["ends"] = _named_ends(model, options["ends"])
    plan = schema.decode(Plan, options, "plan")
    if plan.precision not in target.precisions:
        why = f" ({target.refused[plan.precision]})" if plan.precision in target.refused else ""
        known = ", ".join(target.precisions)
        raise UsageError(f"target {target.name} has no precision {plan.precision!r}{why}; it has: {known}")
    backend = plan.backend or next(iter(target.backends), "")
    if backend and backend not in target.backends:
        known = ", ".join(target.backends) or "none to choose from"
        raise UsageError(f"target {target.name} has no backend {backend!r}; it has: {known}")
    if plan.verify_rows and (target.name, plan.precision) != ("host", "fp32"):
        raise UsageError(
            "lossless captions need the target host and fp32: other targets have no pass over several drafts "
            "yet, and in other precisions the rows of one pass change one another"
        )
    if not 0 <= plan.verify_rows <= 16:
        raise UsageError("plan: verify_rows goes from 0 to 16")
    if not 1 <= plan.beam <= 32 or plan.fill_rows < 1 or min(plan.height, plan.width) < 16:
        raise UsageError("plan: beam goes from 1 to 32, fill_rows from 1, height and width from 16")
    can_screen = target.name == "host" and plan.beam == 1 and plan.task == "caption"
    if plan.screened and not can_screen:
        raise UsageError(
            "a screened head needs the target host, one beam and captions: other runtimes lack the kernel, beams "
            "compare exact probabilities, and an answer is chosen among few words"
        )
    if "screened" not in options and can_screen:
        plan = replace(plan, screened=describe(model).vocab_size >= SCREENED_WORDS)
    ends = {stack: tuple(plan.ends.get(stack, e)) for stack, e in default_ends(model, target).items()}
    surplus = set(plan.ends) - set(ends)
    if surplus:
        raise UsageError(f"plan: no stack {sorted(surplus)[0]!r} in this model; it has: {', '.join(ends)}")
    return replace(plan, backend=backend, ends=ends)


def _named_ends(model: Any, name: str) -> dict[str, list[int]]:
    if name not in NAMED:
        raise UsageError(f"unknown plan {name!r}; plans known by name: {', '.join(NAMED)}")
    return {
        stack: list(range(1, shape.layers + 1)) if name == "per-layer" else [shape.layers]
        for stack, shape in family_of(model).stacks(model).items()
    }


def cut_request(
    plan: Plan,
    prompt: tuple[int, ...] | None,
    model: Description,
    answers: tuple[int, ...] = (),
    fed: tuple[int, ...] = (),
) -> CutRequest:
    """The plan in the words of the cut; `prompt` None: a text comes with the picture. `answers`: ids
    that are chosen among, after the decoder was `fed` (`SearchSettings`)."""
    names = ("beam", "max_length", "min_length", "no_repeat_ngram", "length_penalty")
    own = {name: getattr(plan, name) for name in names}
    search = SearchSettings(bos=model.bos, pad=model.pad, eos=model.eos, answers=answers, fed=fed, **own)
    rows = {"fill_rows": plan.fill_rows, "verify_rows": plan.verify_rows}
    return CutRequest(plan.height, plan.width, plan.ends, search, prompt, plan.text_length, **rows)
