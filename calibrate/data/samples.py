"""What calibration runs on: pictures, what counts as one draw, and captions where people wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mue_edge.calibrate.data.embedded import EmbeddedPicture
from mue_edge.calibrate.data.examples import Example, read
from mue_edge.calibrate.metrics import cider
from mue_edge.calibrate.metrics.cider import Frequencies
from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.errors import InputFileError

# Of a user's data, by cluster: the rest is for certification, which needs more.
TUNE_SHARE = 0.3


@dataclass(frozen=True)
class Samples:
    """Pictures with their clusters and references (lower case; None: nobody captioned them), in one order."""

    source: str
    samples: tuple[Sample, ...]
    clusters: tuple[str, ...]
    references: tuple[tuple[str, ...], ...] | None

    def __len__(self) -> int:
        return len(self.samples)

    def rows(self, chosen: Sequence[int], source: str) -> Samples:
        """Some of them."""
        references = None if self.references is None else tuple(self.references[i] for i in chosen)
        samples = tuple(self.samples[i] for i in chosen)
        clusters = tuple(self.clusters[i] for i in chosen)
        return Samples(source, samples, clusters, references)

    def at_most(self, count: int) -> Samples:
        """An even draw of so many of them, the same every time; all, if there are no more."""
        if len(self) <= count:
            return self
        drawn = np.random.default_rng(0).permutation(len(self))[:count]
        return self.rows(sorted(drawn.tolist()), f"{self.source} ({count} of {len(self)})")

    def joined(self, other: Samples) -> Samples:
        """These and others after them; without references where either has none."""
        references = None
        if self.references is not None and other.references is not None:
            references = self.references + other.references
        samples, clusters = self.samples + other.samples, self.clusters + other.clusters
        return Samples(f"{self.source}+{other.source}", samples, clusters, references)

    def fingerprint(self) -> str:
        """Hash of the pictures' bytes, clusters and references."""
        digest = hashlib.sha256()
        for i, sample in enumerate(self.samples):
            references = self.references[i] if self.references is not None else ()
            for part in (sample.id, self.clusters[i], *references):
                digest.update(part.encode() + b"\0")
            digest.update(hashlib.sha256(_encoded(sample)).digest())
        return digest.hexdigest()[:16]


def of_examples(examples: Sequence[Example], source: str, normalised: Callable[[str], str]) -> Samples:
    """Captioned pictures; `normalised` writes a caption as the model would. Each picture is a draw of its own
    unless its example says otherwise."""
    samples = tuple(
        Sample(e.id, e.picture.read() if isinstance(e.picture, EmbeddedPicture) else e.picture) for e in examples
    )
    references = tuple(tuple(normalised(text) for text in e.captions) for e in examples)
    return Samples(source, samples, tuple(e.cluster for e in examples), references)


def of_tables(
    tune: Path, certify: Path, trained_on: Iterable[str], normalised: Callable[[str], str]
) -> tuple[Samples, Samples, Frequencies]:
    """Two data sets that were split before, and document frequencies of a model's training captions."""
    return (
        of_examples(read(tune), tune.name, normalised),
        of_examples(read(certify), certify.name, normalised),
        cider.frequencies((normalised(text),) for text in trained_on),
    )


def of_pictures(files: Sequence[Path], source: str) -> Samples:
    """Pictures without captions."""
    if not files:
        raise InputFileError(f"{source} holds no pictures")
    samples = tuple(Sample(str(file), file) for file in files)
    return Samples(source, samples, tuple(sample.id for sample in samples), None)


def split(whole: Samples) -> tuple[Samples, Samples]:
    """(tune, certify), by a hash of the cluster, so that no cluster stands in both and none changes sides."""

    rows: dict[bool, list[int]] = {True: [], False: []}
    for i, cluster in enumerate(whole.clusters):
        number = int.from_bytes(hashlib.sha256(f"tune|{cluster}".encode()).digest()[:8], "big")
        rows[number < TUNE_SHARE * 2**64].append(i)
    tune, certify = rows[True], rows[False]
    if len(tune) < 2 or len(certify) < 2:
        raise InputFileError(
            f"{whole.source}: {len(whole)} pictures are too few to be split into pictures to tune on and "
            "others to certify on; give some hundreds"
        )
    return whole.rows(tune, f"{whole.source} (tune)"), whole.rows(certify, f"{whole.source} (certify)")


def _encoded(sample: Sample) -> bytes:
    if isinstance(sample.picture, bytes):
        return sample.picture
    try:
        return Path(sample.picture).read_bytes()
    except OSError as problem:
        raise InputFileError(f"cannot read {sample.picture}: {problem.strerror}") from problem
