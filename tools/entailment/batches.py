"""Training batches of pictures and statements, as a function of the step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mue_edge.apps.stickers.dataset import Stickers
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.loop.search import prompt_ids
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.training.statements import EncodedStatements
from tools.entailment import states as encoder_states
from tools.entailment.network import fed_of, source_ids
from tools.entailment.pairs import drawn
from tools.entailment.rules import LABELS, Names
from tools.stickers.objective import Depths

# Statements about each picture: of one that has undecided ones, and of another.
UNDECIDED = ("maybe", "maybe", "yes", "yes", "no", "no")
DECIDED = ("yes", "yes", "yes", "no", "no", "no")
UNDECIDED_SHARE = 0.6  # of the pictures of a step
FAR_SHARE = 0.5  # of what is false: a name of another thing altogether


class Statements:
    """What the encoder makes of statements, after each of its layers; each is encoded once."""

    def __init__(self, model: Model, tokenizer: Tokenizer, feed: str) -> None:
        self._model, self._tokenizer, self._fed = model, tokenizer, fed_of(tokenizer, feed)
        self._ids: dict[str, list[int]] = {}
        self._states: dict[str, NDArray[np.float16]] = {}

    def __call__(self, hypotheses: list[str], depth: int) -> tuple[Tensor, Tensor]:
        """Final states [B, T, d] after `depth` layers, and where they are padding [B, T]."""
        self._encode(sorted(set(hypotheses) - self._states.keys()))
        states = [self._states[h][depth - 1] for h in hypotheses]
        lengths = torch.tensor([len(state) for state in states])
        out = np.zeros((len(states), int(lengths.max()), states[0].shape[1]), np.float32)
        for row, state in zip(out, states):
            row[: len(state)] = state
        return torch.from_numpy(out), torch.arange(out.shape[1])[None] >= lengths[:, None]

    def prompts(self, hypotheses: list[str]) -> list[list[int]]:
        """What the decoder is fed before it answers."""
        return [list(prompt_ids(self._tokenizer.bos, self._fed, self.ids(h))) for h in hypotheses]

    def ids(self, hypothesis: str) -> list[int]:
        """The source text."""
        if hypothesis not in self._ids:
            self._ids[hypothesis] = source_ids(self._tokenizer, hypothesis)
        return self._ids[hypothesis]

    def _encode(self, new: list[str]) -> None:
        if not new:
            return
        ids = [self.ids(h) for h in new]
        longest, pad = max(map(len, ids)), self._tokenizer.pad
        words = torch.tensor([row + [pad] * (longest - len(row)) for row in ids])
        with torch.no_grad():
            states = encoder_states.text_states(self._model, words).half().numpy()
        for h, row, state in zip(new, ids, states):
            self._states[h] = state[:, : len(row)].copy()


@dataclass(frozen=True)
class Batch:
    """Places of N pictures in the train split, 6 statements about each in turn, and their labels [6 N]."""

    places: NDArray[np.int64]
    hypotheses: list[str]
    labels: Tensor


class Pairs:
    """Statements about the training pictures at `places`, as a function of the step; `weights` [C] make the
    labels even."""

    def __init__(self, data: Stickers, names: Names, batch: int, seed: int, places: NDArray[np.int64]) -> None:
        self.seed = seed
        self._names = names
        self._captions = [data.records[i].caption for i in data.rows("train").tolist()]
        self._rules = {c: {lab: names.hypotheses(c, lab) for lab in LABELS} for c in set(self._captions)}
        has = np.array([bool(self._rules[self._captions[place]]["maybe"]) for place in places])
        undecided = round(batch * UNDECIDED_SHARE)
        self._pools = ((places[has], undecided), (places[~has], batch - undecided))
        counts = undecided * np.array([UNDECIDED.count(label) for label in LABELS])
        counts += (batch - undecided) * np.array([DECIDED.count(label) for label in LABELS])
        self.weights = torch.from_numpy(counts.mean() / counts).float()

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        places = np.concatenate([rng.choice(pool, count, replace=False) for pool, count in self._pools])
        hypotheses, labels = [], []
        for place in places.tolist():
            rules = self._rules[self._captions[place]]
            for label in UNDECIDED if rules["maybe"] else DECIDED:
                known = label if rules[label] else "yes"  # a few names have nothing that is false of them
                if known == "no" and rng.random() < FAR_SHARE:
                    hypotheses.append(self._names.far(self._captions[place], rng.random()))
                else:
                    hypotheses.append(drawn(rules[known], rng.random()))
                labels.append(LABELS.index(known))
        return Batch(places, hypotheses, torch.tensor(labels))


def encoded(
    model: Model, patches: Tensor, said: Statements, hypotheses: list[str], of: Tensor, depths: Depths
) -> EncodedStatements:
    """The decoder's input for statements [B] about the pictures `of` [B] with `patches` [N, P, d]."""
    with torch.no_grad():
        image = encoder_states.image_states(model, patches, depths[0])
        text, padding = said(hypotheses, depths[1])
        where = encoder_states.positions(model, image.shape[1], text.shape[1])
    return EncodedStatements(image, text, padding, of, where)
