"""What can be guessed from a statement alone: a model that never sees a picture.

A network of one hidden layer over the words and pairs of neighbouring words that occur in training, trained
on the training split's pairs, drawn and balanced as those that it is judged on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.entailment.pairs import Pair
from tools.entailment.rules import LABELS

HIDDEN, EPOCHS, BATCH, RATE, SEED = 64, 8, 128, 3e-3, 0
LEAST = 3  # times that a word, or a pair of words, occurs


class Guesser:
    """Guesses labels of statements."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        counts = Counter(part for pair in pairs for part in _parts(pair.hypothesis))
        self._places = {part: i for i, part in enumerate(p for p, n in counts.items() if n >= LEAST)}
        torch.manual_seed(SEED)
        self._network = nn.Sequential(
            nn.EmbeddingBag(len(self._places) + 1, HIDDEN, mode="sum"),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(HIDDEN, len(LABELS)),
        )
        self._train(pairs)

    def __call__(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """Places of the guesses in LABELS."""
        with torch.inference_mode():
            guesses: NDArray[np.int64] = self._network.eval()(self._rows(pairs)).argmax(1).numpy()
        return guesses

    def _train(self, pairs: Sequence[Pair]) -> None:
        rows, labels = self._rows(pairs), torch.tensor([LABELS.index(pair.label) for pair in pairs])
        optimiser = torch.optim.AdamW(self._network.parameters(), lr=RATE, weight_decay=0.01)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(rows)).chunk(-(-len(rows) // BATCH)):
                optimiser.zero_grad()
                loss = nn.functional.cross_entropy(self._network(rows[chosen]), labels[chosen])
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()

    def _rows(self, pairs: Sequence[Pair]) -> Tensor:
        """Places of what each statement is made of, [n, longest]; unknown and padding is the last place."""
        found = [[self._places.get(p, len(self._places)) for p in _parts(q.hypothesis)] for q in pairs]
        longest, rest = max(map(len, found)), len(self._places)
        return torch.tensor([row + [rest] * (longest - len(row)) for row in found])


def _parts(hypothesis: str) -> list[str]:
    words = ["<", *hypothesis.replace(":", " :").replace(",", " ,").split(), ">"]
    return [*words, *(f"{a} {b}" for a, b in pairwise(words))]
