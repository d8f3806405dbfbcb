"""The target iphone: captions through the evaluator, and through stand-ins of Core ML's two interfaces."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError
from mue_edge.export.build import export
from mue_edge.measuring import measure, profile
from mue_edge.targets import iphone, open_runtime
from mue_edge.targets.coreml import check as coreml_check
from mue_edge.targets.coreml import objc as coreml_objc
from mue_edge.targets.coreml import packages as coreml_packages
from mue_edge.targets.coreml.check import BEST_PSNR, check
from mue_edge.targets.coreml.mac import Compiled
from mue_edge.targets.coreml.objc import Models
from mue_edge.targets.coreml.packages import MODEL
from mue_edge.targets.coreml.runtime import CoreMLRuntime
from mue_edge.targets.verify import verify
from tests.apps.cli.run import Runner, picture
from tests.apps.cli.test_profile import steady
from tests.targets.core_ml import coremltools, of_bytes
from tests.targets.objective_c import Compiler, ObjectiveC


@pytest.fixture(scope="session")
def packages(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in halves, for iOS 18, grouped as the target says. Read only."""
    out = tmp_path_factory.mktemp("iphone") / "tiny"
    export(tiny_model_folder, out, "iphone", {"precision": "fp16"})
    return out


def test_two_packages_of_several_functions(packages: Path) -> None:
    manifest = open_bundle(packages).manifest
    assert {s.file for s in manifest.segments.values()} == {
        f"segments/{stage}.mlpackage/{MODEL}" for stage in ("encoder", "decoder")
    }
    assert [n for n in manifest.segments if n.startswith(("image", "decoder"))] == [
        "image.0",
        "image.1",
        "image.2",
        "decoder.0",
        "decoder.1",
    ]
    image = manifest.segments["image.0"]
    assert image.inputs["x"].dtype == image.outputs["y"].dtype == "float16"
    assert image.outputs["score"].dtype == image.outputs["gap"].dtype == "float32"
    assert manifest.segments["embed"].inputs["ids"].dtype == "int32"
    assert manifest.segments["stem"].inputs["pixels"].dtype == "uint8"
    assert manifest.evidence.rung == "loop" and manifest.evidence.figures["score_max_error"] < 2e-3


def same_answers(bundle: Any, runtime: CoreMLRuntime) -> None:
    ours = verify(bundle, open_runtime(bundle))
    theirs = verify(bundle, runtime)
    assert theirs == ours and ours.replay_same_tokens == ours.logs


def test_through_coremltools(packages: Path) -> None:
    bundle, compiler = open_bundle(packages), Compiler()
    runtime = CoreMLRuntime(bundle, Compiled(bundle, "ane", coremltools(compiler)))
    same_answers(bundle, runtime)
    assert sorted(compiler.compiled) == ["decoder.mlpackage", "encoder.mlpackage"], "compiled once each"


def test_through_objective_c(packages: Path, tmp_path: Path) -> None:
    """Outputs come with padded rows; halves are in the bundle's types (the stand-in checks inputs)."""
    bundle, compiler = open_bundle(packages), Compiler()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    objc = ObjectiveC(compiler, tmp_path, of_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        same_answers(bundle, CoreMLRuntime(bundle, Models(bundle, objc.bridge(), "gpu")))
    assert {c.computeUnits for c in objc.configurations} == {coreml_objc.UNITS["gpu"]}
    assert not objc.core_video.buffers, "released"
    assert {"decoder_0", "image_0", "head"} < {c.functionName for c in objc.configurations}


def test_each_package_is_hashed_and_read_once(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(packages)
    hashed, parsed = list[str](), list[str]()
    real_file, real_read = Bundle.file, coreml_packages.read

    def file(self: Bundle, name: str) -> Path:
        hashed.append(name)
        return real_file(self, name)

    def read(package: Path, **options: bool) -> Any:
        parsed.append(package.name)
        return real_read(package, **options)

    monkeypatch.setattr(Bundle, "file", file)
    monkeypatch.setattr(coreml_packages, "read", read)
    made = Compiled(bundle, "cpu", coremltools(Compiler()))
    names = {made.compiled(name)[1] for name in bundle.manifest.segments}
    assert len(names) == len(bundle.manifest.segments) > 2
    assert sorted(parsed) == ["decoder.mlpackage", "encoder.mlpackage"]
    assert len(hashed) == len(set(hashed)) and any(name.endswith("weight.bin") for name in hashed)


@pytest.mark.parametrize(
    ("selector", "said", "words"),
    [
        ("compileModelAtURL", "no space", r"compile .*encoder\.mlpackage: no space"),
        ("modelWithContentsOfURL", "no space", r"load the segment stem of .*: no space"),
        ("predictionFromFeatures", "no space", r"run the segment stem of .*: no space"),
        ("initWithShape", "no space", "make an array: no space"),
        ("compileModelAtURL", "", r"compile .*: no reason given"),
    ],
)
def test_what_core_ml_says_reaches_the_user(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: str, said: str, words: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle, objc = open_bundle(packages), ObjectiveC(Compiler(), tmp_path, of_bytes)
    objc.failing[selector] = said
    with pytest.raises(InputFileError, match=f"Core ML could not {words}"):
        verify(bundle, CoreMLRuntime(bundle, Models(bundle, objc.bridge())))


def test_a_device_is_compared_with_the_evaluator(packages: Path) -> None:
    bundle = open_bundle(packages)
    found = check(bundle, {"cpu": Compiled(bundle, "cpu", coremltools(Compiler()))})
    functions = found["cpu"]["functions"]
    # What no golden answer calls is not compared: here, rows that no step skipped.
    assert set(bundle.manifest.segments) - set(functions) <= {"fill.1"} and "image.2" in functions
    assert all(f["psnr"] == BEST_PSNR and f["seconds"] > 0 for f in functions.values())
    assert found["cpu"]["golden"]["replay_same_tokens"] == found["cpu"]["golden"]["logs"]


def test_a_mac_signs_off_and_runs_each_stack_on_its_best_unit(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, loaded = Path(shutil.copytree(packages, tmp_path / "copy")), list[str]()

    def native(bundle: Bundle, units: str = "all") -> Compiled:
        loaded.append(units)
        return Compiled(bundle, units, coremltools(Compiler()))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(iphone, "native", native)
    monkeypatch.setattr(coreml_check, "RUNS", 1)
    monkeypatch.setattr(measure, "measure", steady())
    run = Runner(capsys)
    done = run("verify", folder, "--device")
    assert done.code == 0, done.err
    for said in ("ane        all functions once", "fastest    ", "decoder ", "signed off on this device"):
        assert said in done.out, said
    assert run("profile", folder).code == 0
    chosen = dict(profile.chosen_of(open_bundle(folder)))
    assert {"unit.image", "unit.decoder", "unit.head", "plan.decoder"} <= chosen.keys()
    place = profile.path_of(folder)
    profile.write(place, replace(profile.read(place), chosen={"unit.image": "ane", "unit.decoder": "cpu"}))
    loaded.clear()
    runtime = open_runtime(open_bundle(folder))
    assert {"all", "ane", "cpu"} == set(loaded)
    on = runtime._methods._on  # type: ignore[attr-defined]
    verify(open_bundle(folder), runtime)
    ran = {unit: {name.partition(".")[0] for name in methods._models} for unit, methods in on.items()}
    assert ran["ane"] == {"image"} and ran["cpu"] == {"decoder"} and "head" in ran["all"]


def test_no_sign_off_without_core_ml(packages: Path) -> None:
    runtime = open_runtime(open_bundle(packages))
    with pytest.raises(EnvironmentLacksError, match="only a Mac or a phone"):
        iphone.measure(runtime, [], [])


def test_caption_through_the_evaluator(packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Runner(capsys)("caption", packages, picture(tmp_path / "noise.png"))
    assert done.code == 0 and done.out.strip()


def changed(packages: Path, folder: Path) -> Path:
    out = folder / "copy"
    shutil.copytree(packages, out)
    return out


def test_a_changed_weight_byte_is_noticed(packages: Path, tmp_path: Path) -> None:
    made = changed(packages, tmp_path)
    weights = next(made.rglob("decoder.mlpackage/**/weight.bin"))
    data = bytearray(weights.read_bytes())
    data[-40] ^= 1
    bundle = open_bundle(made)
    runtime = open_runtime(bundle)
    weights.write_bytes(data)
    with pytest.raises(InputFileError, match=r"weight\.bin was changed"):
        verify(bundle, runtime)
