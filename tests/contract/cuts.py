"""Three tiny random models, each cut in another way, so that every kind of segment occurs.

`prompt`: MuE's encoder, constant prompt, relative image bias, uneven segments, heads for exit tests, beam 3.
`joint`: OFA's joint encoder, wider than the decoder, position vectors in both inputs, residual scales, a
decoder segment a layer, greedy.
`text`: MuE's encoder with a text branch on the device and a padded source text, uneven, beam 3.
Where they need not differ they are equal, so that a graph that two cases share is traced once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mue_edge.bundle.manifest import Preprocess
from mue_edge.export import golden
from mue_edge.export.reference import TorchRuntime
from mue_edge.loop.policy import ALWAYS, NEVER, ExitPolicy, Policy, StackExit
from mue_edge.loop.protocol import Layout, Outcome
from mue_edge.loop.replay import run
from mue_edge.loop.search import SearchSettings
from mue_edge.loop.signals import SIGNALS, SIMILARITY
from mue_edge.models.cut import Cut, CutRequest
from mue_edge.models.heads import FREE, KINDS, Heads
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.cutting.cut import cut
from mue_edge.models.ofa.decoding.generate import GeneratedHypothesis
from mue_edge.models.ofa.model import Model, head_sizes
from mue_edge.rules import RULES
from tests.models.ofa.tiny import make
from tools.verification.loop import AtBoundaries

CASES = ("prompt", "joint", "text")
SIDE = 32  # pixels; 2 × 2 patches
CONFIG = OFAConfig(
    vocab_size=60,
    encoder_layers=3,
    encoder_dim=32,
    encoder_ffn=48,
    encoder_heads=4,
    decoder_layers=3,
    decoder_dim=32,
    decoder_ffn=48,
    decoder_heads=4,
    trunk_blocks=(1, 1, 1),
    trunk_width=4,
    image_size=SIDE,
    orig_image_size=SIDE,
    token_bucket_size=8,
    image_bucket_size=6,
    max_source_positions=32,
    max_target_positions=32,
)
NARROW = {"decoder_dim": 24, "decoder_heads": 3, "share_all_embeddings": False, "scale_resids": True}
ENTANGLED = {"entangle_position_embedding": True, "disable_entangle": False}
RELATIVE = {"decomposed": True, "image_relative_bias": True}
PROMPT = (0, 5, 6, 7, 8, 9, 2)
SHORTER = (0, 5, 6, 7, 2)  # the text branch's source, with two words of padding
FULL = Policy("never", name="full")
PREPROCESS = Preprocess(SIDE, SIDE)


@dataclass(frozen=True, eq=False)
class Case:
    """A model and its cut."""

    name: str
    model: Model
    cut: Cut
    request: CutRequest

    @property
    def settings(self) -> SearchSettings:
        return self.request.search

    @property
    def layout(self) -> Layout:
        return self.cut.layout

    def reference(self, picture: NDArray[np.float32]) -> TorchRuntime:
        """The cut run by torch, with a picture and the source text set."""
        return started(self.cut, picture)


@lru_cache
def make_case(name: str) -> Case:
    """The case of that name."""
    cases: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]], int]] = {
        "prompt": ({"decomposed": True, "image_relative_bias": True}, {"image": (1, 3), "text": (1, 2, 3)}, 3),
        "joint": (NARROW | ENTANGLED, {"encoder": (1, 3), "decoder": (1, 2, 3)}, 1),
        "text": ({"decomposed": True}, {"image": (1, 2, 3), "text": (1, 3)}, 3),
    }
    changes, ends, beam = cases[name]
    model = make(CONFIG, seed=3, **changes)
    if name == "prompt":
        model.heads = heads(model.config)
    search = SearchSettings(beam, max_length=9, min_length=7)
    prompt = None if name == "text" else PROMPT
    ends = {"decoder": (1, 3)} | ends
    request = CutRequest(SIDE, SIDE, ends, search, prompt, text_length=len(PROMPT), fill_rows=2)
    return Case(name, model, cut(model, request), request)


def heads(config: OFAConfig) -> Heads:
    """Random ones of every kind."""
    generator, sizes = torch.Generator().manual_seed(5), head_sizes(config)
    return {
        kind: {
            name: torch.randn([9 if n == FREE else n for n in shape], generator=generator)
            / max(1, *shape[-1:], 1) ** 0.5
            for name, shape in shapes(sizes).items()
        }
        for kind, shapes in KINDS.items()
    }


@lru_cache
def pictures() -> tuple[NDArray[np.float32], ...]:
    """Two pictures [1, 3, H, W]."""
    shown = golden.pictures(SIDE, SIDE, 2).astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1
    return tuple(shown[:, None])


def started(made: Cut, picture: NDArray[np.float32]) -> TorchRuntime:
    """A runtime of that cut, ready to run the loop."""
    runtime = TorchRuntime(made)
    runtime.set_pixels(picture)
    if made.layout.text_stem:
        runtime.set_source(SHORTER)
    return runtime


@dataclass(frozen=True)
class Cyclic(ExitPolicy):
    """Always `encoder` layers of every encoder stack and decoder[step mod length] decoder layers."""

    encoder: int
    decoder: tuple[int, ...]

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        wanted = self.decoder[step % len(self.decoder)] if stack == "decoder" else self.encoder
        return ALWAYS if depth >= wanted else NEVER


@dataclass(frozen=True)
class Mixed(ExitPolicy):
    """One policy for the encoder stacks and one for the decoder."""

    encoder: ExitPolicy
    decoder: ExitPolicy

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        policy = self.decoder if stack == "decoder" else self.encoder
        return policy.threshold(stack, depth, step, max_length)


# Steps that leave early between steps that do not: rows are pending, are filled, and are pending again.
UP_AND_DOWN = Cyclic(2, (1, 1, 3, 1, 1, 1, 2, 3, 1))
# Deep layers are first reached after several steps.
LATE = Cyclic(1, (1, 1, 1, 1, 3, 1, 3, 3, 3))


@lru_cache
def threshold_policies(name: str) -> tuple[Policy, ...]:
    """MuE's rule at thresholds that part the case's exit tests, and with the decaying schedule."""
    case = make_case(name)
    full = _gaps(case, FULL)
    half, most = (
        {stack: 1 - _between(full[stack], part) for stack in full if stack != "decoder"} for part in (0.5, 0.8)
    )
    # What the decoder scores depends on how far the encoder went and on the decoder's earlier exits.
    encoder = Policy("mue", {stack: StackExit(theta) for stack, theta in half.items()})
    gaps = _gaps(case, encoder)["decoder"] + _gaps(case, Mixed(encoder, LATE))["decoder"]
    low, middle, high = (1 - _between(gaps, part) for part in (0.8, 0.5, 0.3))

    def policy(encoder: Mapping[str, float], decoder: float, beta: float = 1.0, tau: float = 1.0) -> Policy:
        exits = {stack: StackExit(theta) for stack, theta in {**encoder, "decoder": decoder}.items()}
        return Policy("mue", exits, beta=beta, tau=tau)

    return policy(half, middle), policy(most, low), policy(half, high - 0.05, 0.9, 4.0)


def _gaps(case: Case, policy: ExitPolicy) -> dict[str, list[float]]:
    """Stack → the largest gap of every test that could exit."""
    distances: dict[str, list[float]] = {}
    for picture in pictures():
        for test in run(case.layout, case.settings, policy, case.reference(picture), trace=True).decisions:
            if test.distances and test.depth < CONFIG.decoder_layers:
                distances.setdefault(test.stack, []).append(max(test.distances))
    return distances


def _between(values: Sequence[float], part: float) -> float:
    """Half way between two different neighbours, so that rounding decides nothing."""
    values = sorted({*values, max(values) + 0.01})
    i = max(1, min(len(values) - 1, round(part * len(values))))
    return (values[i - 1] + values[i]) / 2


def policies(name: str) -> dict[str, ExitPolicy]:
    """Every policy under which a case is compared."""
    half, most, decayed = threshold_policies(name)
    others = {rule: _half_by(make_case(name), rule) for rule in RULES if _reads(make_case(name), rule)}
    fixed = Policy("fixed", {"image": StackExit(depth=2), "text": StackExit(depth=1), "decoder": StackExit(depth=2)})
    skipping = Policy(
        "uniform-skip", {"image": StackExit(depth=1), "decoder": StackExit(depth=2 if name == "joint" else 1)}
    )
    return {
        "never": FULL, "half": half, "most": most, "decayed": decayed,
        "fixed": fixed, "uniform-skip": skipping, "up-and-down": UP_AND_DOWN, "late": LATE, **others,
    }  # fmt: skip


def _reads(case: Case, rule: str) -> bool:
    """Whether the decoder tests of the rule read something else than similarity that this case has."""
    own = RULES[rule].signal("image")
    first = case.layout.stacks[0].stages[0]
    if own is not None and own not in first.signals:
        return False
    signal = RULES[rule].signal("decoder")
    if signal in (None, SIMILARITY):
        return False
    plain = SIGNALS[signal].from_head and SIGNALS[signal].states == "y"
    return plain or signal in case.layout.decoder.stages[0].signals


@lru_cache
def _half_by(case: Case, rule: str) -> Policy:
    """The rule at a threshold that half of the first boundary's tests would pass."""
    runs = [
        run(case.layout, case.settings, FULL, case.reference(picture), trace=True, heads=True) for picture in pictures()
    ]
    thetas: dict[str, float] = {}
    for stack in ("image", "decoder"):
        signal = RULES[rule].signal(stack)
        tests = [d for r in runs for d in r.decisions if d.stack == stack]
        gaps = [max(d.readings[signal][1]) for d in tests if signal in d.readings]
        if gaps and signal not in (None, SIMILARITY):
            thetas[stack] = 1 - _between(gaps, 0.5)
    return Policy(rule, {"image": StackExit(thetas.get("image")), "decoder": StackExit(thetas["decoder"])}, beta=1.0)


def generated(case: Case, picture: NDArray[np.float32], policy: ExitPolicy) -> list[GeneratedHypothesis]:
    """What the torch model itself does: eager propagation, reordered caches."""
    s = case.settings
    tokens = torch.tensor([case.request.prompt or (*SHORTER, s.pad, s.pad)])
    return case.model.generate(
        tokens,
        torch.from_numpy(picture),
        policy=AtBoundaries(policy, case.layout),
        kv="propagate",
        beam=s.beam,
        max_length=s.max_length,
        min_length=s.min_length,
        no_repeat_ngram=s.no_repeat_ngram,
        length_penalty=s.length_penalty,
    )[0]


def exit_scores(outcome: Outcome) -> dict[tuple[str, int, int], float]:
    """(stack, depth, step) → the lowest score of the live rows."""
    return {(d.stack, d.depth, d.step): min(d.scores) for d in outcome.decisions if d.scores}
