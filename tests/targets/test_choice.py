"""What is best on a device, from made-up measurements whose answer can be worked out by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mue_edge import machine
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.files import sha256
from mue_edge.measuring import profile
from mue_edge.targets import choice
from tests.layouts import changed


def functions(**seconds: tuple[float, float]) -> dict[str, Any]:
    made = {name.replace("_", "."): {"seconds": s, "psnr": p} for name, (s, p) in seconds.items()}
    return {"functions": made}


def test_the_fastest_unit_that_is_right_wins() -> None:
    found = choice.units(
        {
            "cpu": functions(image_0=(3, 90), image_1=(3, 90), decoder_0=(1, 90), head=(1, 20)),
            "ane": functions(image_0=(1, 60), image_1=(1, 60), decoder_0=(2, 60), head=(1, 9)),
            "gpu": functions(image_0=(0.1, 60), image_1=(0.1, 12), decoder_0=(1.5, 60), head=(1, 9)),
        }
    )
    assert found == {"unit.image": "ane", "unit.decoder": "cpu"}, "gpu is wrong in image.1, all in the head"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def measured(bundle: Bundle, call: float, layer: float) -> profile.Profile:
    """A segment costs a call and its layers (the bundle has one in each)."""
    m = bundle.manifest
    seconds = {n: call + layer * n.startswith(("image", "decoder")) for n in m.segments}
    return profile.Profile(
        schema=profile.SCHEMA,
        kind=profile.MEASURED,
        bundle=m.name,
        target=m.target,
        precision=m.precision,
        plan_hash=m.plan_hash,
        macs=profile.total_macs(m),
        device=machine.device(),
        runtime="made",
        threads=1,
        date="",
        segments={n: profile.SegmentTime(s, s, 0.0, 9) for n, s in seconds.items()},
        noise=profile.Noise(1.0, 1.0),
        error=0.0,
    )


def test_a_segment_a_layer_pays_where_calls_are_cheap(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 layers against 1 segment: 2 calls more, for half of the 2 layers that may have run for nothing."""
    manifest, plain = bundle.manifest, choice.target("jetson")
    assert manifest.layout.decoder.depth == 3
    monkeypatch.setattr(choice, "target", lambda name: replace(plain, segments={"decoder": 1, "image": 3}))
    for call, best in ((0.4, choice.PER_LAYER), (0.6, choice.GROUPED)):
        assert choice.plans(manifest, measured(bundle, call, 1.0)) == {"plan.decoder": best}


def test_calibration_is_told_of_groups_that_should_be_none(bundle: Bundle) -> None:
    times = replace(measured(bundle, 0.1, 1.0), chosen={"plan.decoder": choice.PER_LAYER})
    manifest = bundle.manifest
    assert choice.finer(manifest, times) == []
    layout = changed(manifest.layout, "decoder", manifest.layout.decoder.stages[-1:])
    assert choice.finer(replace(manifest, layout=layout), times) == ["decoder"]
    assert choice.finer(replace(manifest, layout=layout), replace(times, chosen={})) == []


def test_what_was_chosen_is_kept_in_the_profile(bundle: Bundle) -> None:
    signed = bundle.path.with_name("copy.device.json")
    place = profile.path_of(bundle.path)
    assert choice.keep(bundle, signed, place) == {} == profile.chosen_of(bundle)
    record = {
        "manifest_sha256": sha256(bundle.path / MANIFEST),
        "device": machine.device(),
        "measured": {"chosen": {"waits": "spin"}},
    }
    signed.write_text(json.dumps(record))
    assert choice.keep(bundle, signed, place) == {} and not place.exists()
    profile.write(place, measured(bundle, 0.1, 1.0))
    assert profile.chosen_of(bundle) == {}
    assert choice.keep(bundle, signed, place) == {"waits": "spin"} == profile.chosen_of(bundle)
    for stale in ({"device": "another"}, {"manifest_sha256": "0"}):
        profile.write(place, measured(bundle, 0.1, 1.0))
        signed.write_text(json.dumps(record | stale))
        assert choice.keep(bundle, signed, place) == {} == profile.chosen_of(bundle)
    elsewhere = replace(measured(bundle, 0.1, 1.0), device="another", chosen={"waits": "spin"})
    profile.write(place, elsewhere)
    assert profile.chosen_of(bundle) == {}, "what is best there says nothing of here"
