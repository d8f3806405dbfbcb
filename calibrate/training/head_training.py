"""Trains heads for exit tests on a frozen model (`mue-edge train --heads RULE`), by kind.

- confidence, of CALM's classifier (Schuster et al. 2022): for each decoder boundary a vector and a bias whose
  sigmoid says how sure the arg-max there is. CALM learns the event "arg-max here = the last layer's". Where
  captions were trained on it hardly ever fails, so that a head would learn from very few steps; the margin
  between the two likeliest words, which says the same, is to be had of every step. A vector alone cannot see
  words compete. So the model's most frequent words have rows too, few enough to cost a ninth of a layer's
  weights, and how sure the choice between them is are two more features; the vector says what they do not.
- gate (after ECO-M2F, Yao et al. 2024; `rules/gate.py`): from the stem's mean features, for every encoder
  depth the probability that the answer is full depth's.
- foresight, of DeeCap (Fei et al. 2022; `rules/deecap.py`): at every decoder boundary a network that imitates
  the last layer's state, and a gate that mixes it with the present one. The loss is the imitation's error, in
  units of the last state's spread, and the cross-entropy of the last layer's word under the mix.
- ramps, of DeeBERT (Xin et al. 2020): at every decoder boundary a linear map of the states, before the head
  that all share. DeeBERT's own off-ramps are classifiers, which over a vocabulary have V·d weights each; a
  map of the states has d² and, behind the shared head, can be any such classifier whose rows the head's own
  span (as the tuned lens has it, Belrose et al. 2023). Its labels are the last layer's words.

Pictures are captioned at full decoder depth, each batch at a drawn encoder depth, since policies shorten that
too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mue_edge import models
from mue_edge.calibrate.policies.signals import area
from mue_edge.calibrate.training.teachers import Teacher
from mue_edge.errors import UsageError
from mue_edge.models.heads import HIDDEN, Steps
from mue_edge.models.outputs import sureness

HELD_OUT = 0.2  # of the batches: to measure the AUC on
CONFIDENCE_RIDGE = 1e-2  # of the vector's squared weights, on features of mean 0 and spread 1
WORDS = 1.5  # rows of frequent words, in units of the width: a layer has 14·width² weights and more
ROWS_FITTED = 4096  # states that the rows are fitted to
GATE_STEPS, GATE_RATE, GATE_DECAY = 400, 3e-3, 3e-2
MAP_EPOCHS, MAP_BATCH, MAP_RATE, MAP_DECAY = 12, 256, 1e-3, 1e-2
T = TypeVar("T")


@dataclass(frozen=True)
class Boundary:
    """A head on `cases` (steps, or pictures) that it was not fitted to: the share for which exiting there
    keeps the answer, and how well the head and other signs tell them apart: AUC by name (None: all alike)."""

    depth: int
    cases: int
    kept: float
    auc: dict[str, float | None]


@dataclass(frozen=True)
class Trained:
    """A kind's tensors (`mue_edge.models.heads`), what a case is, and each boundary on the held-out cases."""

    tensors: dict[str, Tensor]
    cases: str
    boundaries: tuple[Boundary, ...]


# Of a boundary: tensors, whether exiting keeps the word of each step that was held out, and signs of that.
Fitted = tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]


def train(
    kind: str, teacher: Teacher, batches: Iterable[Any], *, seed: int = 0, progress: Callable[[], None] = lambda: None
) -> Trained:
    """Heads of a kind from batches as the teacher takes them; `progress` is called after each.

    Raises UsageError for too few batches, and for a gate of an encoder of one layer.
    """
    if kind == "gate":
        return _train_gate(teacher, batches, seed, progress)
    rng = torch.Generator().manual_seed(seed)
    test, fit = map(Steps.joined, _collected(batches, lambda batch: teacher.steps(batch, rng), progress))
    teacher.model.requires_grad_(False)
    tensors = _frequent_words(teacher, fit, rng) if kind == "confidence" else {}
    words = dict(tensors)
    boundaries = []
    for depth in range(1, fit.states.shape[1] - 1):
        if kind == "confidence":
            own, same, signs = _confidence(depth, fit, test, words)
        else:
            own, same, signs = _mapped(kind, teacher, depth, fit, test, rng)
        tensors |= {f"{depth}.{name}": value.detach() for name, value in own.items()}
        boundaries.append(_boundary(depth, same, signs))
    return Trained(tensors, "step", tuple(boundaries))


def _collected(
    batches: Iterable[Any], observe: Callable[[Any], T], progress: Callable[[], None]
) -> tuple[Sequence[T], Sequence[T]]:
    """What is observed of the batches held out, and of those to fit."""
    parts = []
    for batch in batches:
        parts.append(observe(batch))
        progress()
    held_out = max(1, round(HELD_OUT * len(parts)))
    if len(parts) <= held_out:
        raise UsageError("heads need at least two batches of pictures; give more pictures or a smaller --batch")
    return parts[:held_out], parts[held_out:]


def _boundary(depth: int, same: Tensor, signs: Mapping[str, Tensor]) -> Boundary:
    aucs = {name: area((-sign[same]).tolist(), (-sign[~same]).tolist()) for name, sign in signs.items()}
    return Boundary(depth, len(same), float(same.float().mean()), aucs)


def _standardised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features [N, d] at mean 0 and spread 1, and their mean [d] and spread [d]."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    return (features - mean) / spread, mean, spread


def _minimise(
    network: nn.Module, loss: Callable[[Any], Tensor], parts: Iterable[Any], rate: float, decay: float
) -> None:
    """A step of AdamW on the loss of each part of the data."""
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    for part in parts:
        optimiser.zero_grad()
        loss(part).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _train_gate(teacher: Teacher, batches: Iterable[Any], seed: int, progress: Callable[[], None]) -> Trained:
    boundaries = models.describe(teacher.model).encoder_layers - 1
    if boundaries < 1:
        raise UsageError("an encoder of one layer needs no gate")
    parts = _collected(batches, lambda batch: (teacher.features(batch), teacher.kept(batch)), progress)
    (test, test_same), (fit, fit_same) = ([torch.cat(column) for column in zip(*part)] for part in parts)
    torch.manual_seed(seed)
    features, mean, spread = _standardised(fit)
    hidden, out = nn.Linear(fit.shape[1], HIDDEN), nn.Linear(HIDDEN, boundaries)
    gate = nn.Sequential(OrderedDict(hidden=hidden, relu=nn.ReLU(), out=out))

    def loss(_part: None) -> Tensor:
        return F.binary_cross_entropy_with_logits(gate(features), fit_same.float())

    _minimise(gate, loss, repeat(None, GATE_STEPS), GATE_RATE, GATE_DECAY)
    with torch.no_grad():  # of the features as they are
        hidden.weight.div_(spread)
        hidden.bias.sub_(hidden.weight @ mean)
        logits = gate(test)
    results = (_boundary(i + 1, test_same[:, i], {"head": logits[:, i]}) for i in range(boundaries))
    tensors = {name: value.detach() for name, value in gate.state_dict().items()}
    return Trained(tensors, "picture", tuple(results))


@torch.no_grad()
def _frequent_words(teacher: Teacher, fit: Steps, rng: torch.Generator) -> dict[str, Tensor]:
    """Rows and biases on normalised states that give the logits of the model's most frequent words; by least
    squares, so that no family need say how its head is made."""
    width = fit.states.shape[-1]
    never = teacher.logits(fit.states[0, -1]).isinf()  # what is no answer
    counts = torch.zeros(len(never))
    for part in torch.split(fit.states[:, -1], MAP_BATCH):
        counts += torch.bincount(teacher.logits(part).argmax(-1), minlength=len(counts))
    most = min(int(WORDS * width), int((~never).sum()))
    words = counts.masked_fill(never, -1).argsort(descending=True, stable=True)[:most]
    states = fit.states[:, 1:].flatten(0, 1)
    states = states[torch.randperm(len(states), generator=rng)[:ROWS_FITTED]]
    wanted = torch.cat([teacher.logits(part)[:, words] for part in torch.split(states, MAP_BATCH)])
    normal = F.pad(F.layer_norm(states, (width,)), (0, 1), value=1.0)
    rows = torch.linalg.lstsq(normal, wanted, driver="gelsd").solution.T
    return {"words.weight": rows[:, :-1].contiguous(), "words.bias": rows[:, -1].contiguous()}


def _sureness(states: Tensor, words: Mapping[str, Tensor]) -> Tensor:
    """Of a choice between the words [N, T]."""
    normal = F.layer_norm(states, states.shape[-1:])
    return sureness(F.linear(normal, words["words.weight"], words["words.bias"]))


def _confidence(depth: int, fit: Steps, test: Steps, words: Mapping[str, Tensor]) -> Fitted:
    """Logistic regression of margins on states and the choice between the words."""
    states, mean, spread = _standardised(fit.states[:, depth])
    sure, sure_mean, sure_spread = _standardised(_sureness(fit.states[:, depth], words))
    weight, bias, slopes = (torch.zeros(n, requires_grad=True) for n in (states.shape[1:], (), sure.shape[1:]))
    optimiser = torch.optim.LBFGS([weight, bias, slopes], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = states @ weight + bias + sure @ slopes
        error = F.binary_cross_entropy_with_logits(logits, fit.margin[:, depth - 1])
        total: Tensor = error + CONFIDENCE_RIDGE * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    plain, steep = weight.detach() / spread, slopes.detach() / sure_spread
    head = {"weight": plain, "bias": bias.detach() - plain @ mean - steep @ sure_mean, "sure": steep}
    before, here = test.states[:, depth - 1], test.states[:, depth]
    signs = {
        "head": here @ head["weight"] + head["bias"] + _sureness(here, words) @ steep,
        "similarity": F.cosine_similarity(before, here, dim=-1),
        "margin": test.margin[:, depth - 1],
    }
    return head, test.same[:, depth - 1], signs


class _ForesightNetwork(nn.Module):
    """Names its tensors as `models.heads` does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)  # begins as no change

    def imitated(self, states: Tensor) -> Tensor:
        """An estimate of the last layer's states."""
        changed: Tensor = states + self.outer(torch.tanh(self.inner(states)))
        return changed

    def forward(self, states: Tensor) -> Tensor:
        share = torch.sigmoid(self.mix(states))
        return share * states + (1 - share) * self.imitated(states)


def _foresight(width: int, rng: torch.Generator) -> nn.Module:
    torch.manual_seed(int(torch.randint(1 << 30, (), generator=rng)))
    return _ForesightNetwork(width)


def _ramp(width: int, _rng: torch.Generator) -> nn.Module:
    """Begins as the shared head alone."""
    ramp = nn.Linear(width, width)
    nn.init.eye_(ramp.weight)
    nn.init.zeros_(ramp.bias)
    return ramp


# Kind → how its sign is called, and a network for states of a width.
MAPS: dict[str, tuple[str, Callable[[int, torch.Generator], nn.Module]]] = {
    "foresight": ("mix's entropy", _foresight),
    "ramps": ("off-ramp's entropy", _ramp),
}


def _mapped(kind: str, teacher: Teacher, depth: int, fit: Steps, test: Steps, rng: torch.Generator) -> Fitted:
    """A network that maps a boundary's states [N, d], so that the vocabulary's head reads the last layer's
    word from them."""
    states, last = fit.states[:, depth], fit.states[:, -1]
    sign, make = MAPS[kind]
    network, spread = make(states.shape[-1], rng), last.var(0).mean()
    with torch.no_grad():
        words = teacher.logits(last).argmax(-1)

    def loss(rows: Tensor) -> Tensor:
        error = F.cross_entropy(teacher.logits(network(states[rows])), words[rows])
        if isinstance(network, _ForesightNetwork):
            error = error + F.mse_loss(network.imitated(states[rows]), last[rows]) / spread
        return error

    def parts() -> Iterator[Tensor]:
        for _ in range(MAP_EPOCHS):
            yield from torch.randperm(len(states), generator=rng).split(MAP_BATCH)  # type: ignore[no-untyped-call]

    _minimise(network, loss, parts(), MAP_RATE, MAP_DECAY)
    with torch.no_grad():
        logits = teacher.logits(network(test.states[:, depth]))
        same = logits.argmax(-1) == teacher.logits(test.states[:, -1]).argmax(-1)
        certain = -torch.special.entr(torch.softmax(logits, -1)).sum(-1)  # excluded words: 0
    return network.state_dict(), same, {sign: certain}
