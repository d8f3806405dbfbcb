"""Pictures in clusters: what is drawn together counts as one draw.

A *cluster* is what the data was drawn by: an emoji (whose pictures by several artists share a caption), a
scene, a video; a picture of its own where nothing is shared. Everything that is certified is a **mean over
clusters of the mean over a cluster's pictures**: each cluster weighs the same, gives one bounded term, and
no cluster of many pictures can carry the claim alone. With clusters of one picture it is the plain mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mue_edge.errors import UsageError


class Clusters:
    """The clusters of n pictures, in a random order that `seed` and the clusters' names fix."""

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        if not names:
            raise UsageError("there are no pictures")
        distinct, index = np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)
        rng = np.random.default_rng(seed)
        self.pictures, self.count = len(names), len(distinct)
        self._of: NDArray[np.int64] = rng.permutation(self.count)[index.reshape(-1)]
        self._sizes = np.bincount(self._of)
        self._pick = rng.random(self.count)

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of each cluster: pictures [n] → clusters [C]."""
        if values.shape != (self.pictures,):
            raise UsageError(f"{values.shape} values for {self.pictures} pictures")
        sums = np.bincount(self._of, weights=values).astype(np.float64)
        return sums / self._sizes

    def drawn(self) -> NDArray[np.int64]:
        """One picture of each cluster, drawn evenly: its share of any property is the mean over clusters."""
        by_cluster = np.argsort(self._of, kind="stable")
        starts = np.cumsum(self._sizes) - self._sizes
        chosen: NDArray[np.int64] = by_cluster[starts + (self._pick * self._sizes).astype(np.int64)]
        return chosen
