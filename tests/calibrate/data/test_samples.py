"""Calibration pictures: clusters, the split, fingerprints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge.calibrate.data.examples import read
from mue_edge.calibrate.data.samples import Samples, of_examples, of_pictures, split
from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.errors import InputFileError


def _samples(folder: Path, count: int = 200) -> Samples:
    lines = []
    for i in range(count):
        (folder / f"{i}.png").write_bytes(bytes([i % 251]))
        lines.append(f"{i}.png,A cat {i},film{i // 4}\n")
    (folder / "t.csv").write_text("image,caption,cluster\n" + "".join(lines), encoding="utf-8")
    return of_examples(read(folder / "t.csv"), "films", str.lower)


def test_no_cluster_is_on_both_sides(tmp_path: Path) -> None:
    whole = _samples(tmp_path)
    tune, certify = split(whole)
    assert not set(tune.clusters) & set(certify.clusters)
    assert len(tune) + len(certify) == 200
    assert 30 <= len(tune) <= 90
    assert whole.references is not None
    assert whole.references[7] == ("a cat 7",)
    fewer = whole.rows(range(100), "half")
    assert set(split(fewer)[0].clusters) <= set(tune.clusters)


def test_the_fingerprint_sees_pictures_captions_and_clusters(tmp_path: Path) -> None:
    whole = _samples(tmp_path, 8)
    first = whole.fingerprint()
    assert whole.fingerprint() == first
    assert replace(whole, references=None).fingerprint() != first
    assert replace(whole, clusters=("x", *whole.clusters[1:])).fingerprint() != first
    (tmp_path / "3.png").write_bytes(b"other")
    assert whole.fingerprint() != first


def test_pictures_without_captions(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(3)]
    plain = of_pictures(files, "photos")
    assert plain.references is None
    assert plain.clusters == tuple(map(str, files))
    with pytest.raises(InputFileError, match="photos holds no pictures"):
        of_pictures([], "photos")
    with pytest.raises(InputFileError, match="too few"):
        split(plain.rows([0], "one"))


def test_two_sets_are_joined_and_references_only_where_both_have_them() -> None:
    captioned = Samples("a", (Sample("1", b""),), ("x",), (("red",),))
    plain = Samples("b", (Sample("2", b""),), ("y",), None)
    both = captioned.joined(captioned)
    assert (both.source, both.clusters, both.references) == ("a+a", ("x", "x"), (("red",), ("red",)))
    assert captioned.joined(plain).references is None and len(captioned.joined(plain)) == 2


def test_no_more_than_asked_are_drawn_the_same_ones_every_time() -> None:
    whole = Samples("x", tuple(Sample(str(i), b"") for i in range(50)), tuple(map(str, range(50))), None)
    some = whole.at_most(20)
    assert some == whole.at_most(20) and len(set(some.clusters)) == len(some) == 20
    assert some.source == "x (20 of 50)" and some.clusters == tuple(s.id for s in some.samples)
    assert some.clusters != whole.clusters[:20]
    assert whole.at_most(50) is whole
