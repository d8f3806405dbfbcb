"""build, verify --device, profile and caption through the adapter, on stand-ins; and where there is no
Jetson.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mue_edge import targets
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.measuring import measure, profile
from mue_edge.sessions.captioner import Captioner
from mue_edge.targets.host import HostRuntime
from mue_edge.targets.trt import power, report
from tests.apps.cli.run import Runner, picture
from tests.apps.cli.test_profile import steady
from tests.targets.trt.conftest import Board


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


def test_from_build_to_sign_off(
    run: Runner, jetson_bundle: Bundle, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "CAPTIONS", 3)
    said = run("caption", jetson_bundle.path, picture(tmp_path / "a.png")).error(4)
    assert f"mue-edge build {jetson_bundle.path}" in said
    done = run("build", jetson_bundle.path)
    assert done.code == 0 and "next: mue-edge verify" in done.out and "decoder.2" in done.out
    assert run("build", jetson_bundle.path, "--json").json()["engines"][0]["seconds"] == 0
    assert run("caption", jetson_bundle.path, tmp_path / "a.png").code == 0
    out, flags, set_flags = tmp_path / "signed.json", list[int](), board.cuda.cudaSetDeviceFlags
    monkeypatch.setattr(board.cuda, "cudaSetDeviceFlags", lambda way: flags.append(way) or set_flags(way))
    done = run("verify", jetson_bundle.path, "--device", "--out", out)
    assert done.code == 0 and "signed off on this device" in done.out, done.err
    record = json.loads(out.read_text())
    assert record["rung"] == "device" and record["golden"]["logs"] == 8
    measured = record["measured"]
    assert measured["gpu"]["sm"] == "8.7" and measured["versions"]["tensorrt"] == "10.3.0"
    assert set(measured["captions"]["full"]) == {"look_ahead", "one_by_one"}
    assert measured["calls"].keys() == {"launch_us", "read_and_wait_us"} and measured["memory"]["buffers"] > 0
    assert record["knife_edge"]["tests"] > 0
    waits = measured["waits"]
    assert waits["ways"].keys() == {"auto", "spin", "block"} and waits["used"] == "auto"
    assert waits["fastest"] in waits["ways"] and flags == [0, 1, 4, 0], "the way that was used comes back"
    assert "waits      block: median" in done.out
    assert ("MUE_EDGE_WAITS=" in done.out) == (waits["fastest"] != "auto")
    assert measured["versions"]["cuda_calls"] == "cuda.bindings.runtime"


def test_a_bundle_that_judges_statements_is_signed_off(
    run: Runner, jetson_entail_folder: Path, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "CAPTIONS", 1)
    assert run("build", jetson_entail_folder).code == 0
    done = run("verify", jetson_entail_folder, "--device", "--out", tmp_path / "signed.json")
    assert done.code == 0 and "signed off on this device" in done.out, done.err


def test_what_the_sign_off_chose_is_used_here(
    run: Runner, jetson_bundle: Bundle, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By way of the bundle's profile, whichever of the two was made first; the variable goes before it."""
    monkeypatch.setattr(report, "CAPTIONS", 1)
    monkeypatch.setattr(report, "_waits", lambda *given: {"used": "auto", "fastest": "block", "ways": {}})
    monkeypatch.setattr(measure, "measure", steady())
    bundle = Path(shutil.copytree(jetson_bundle.path, tmp_path / "copy"))
    assert run("build", bundle).code == 0
    done = run("verify", bundle, "--device")
    assert done.code == 0 and "next       mue-edge profile" in done.out, done.err
    done = run("profile", bundle)
    assert done.code == 0 and "chosen     waits block" in done.out, done.err
    assert profile.read(profile.path_of(bundle)).chosen["waits"] == "block"
    assert "chosen     waits block" in run("verify", bundle, "--device").out
    for chosen, flags in (("", 4), ("spin", 1)):
        monkeypatch.setenv("MUE_EDGE_WAITS", chosen)
        targets.open_runtime(open_bundle(bundle)).close()
        assert board.cuda.flags == flags


def test_profiles_wait_for_every_segment(jetson_bundle: Bundle, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = board.runtime(jetson_bundle)
    seen = []

    def warm_up(_self: object) -> None:
        seen.append(runtime.stepwise)
        raise KeyboardInterrupt

    monkeypatch.setattr(measure._Captioning, "warm_up", warm_up)
    with pytest.raises(KeyboardInterrupt):
        measure.measure(Captioner(jetson_bundle, runtime), measure.NetworkInputs([], None), 200)
    assert seen == [True] and not runtime.stepwise


def test_without_a_jetson_onnxruntime_runs_the_bundle_but_signs_nothing(
    run: Runner, jetson_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MUE_EDGE_JETSON", raising=False)
    monkeypatch.setattr("mue_edge.targets.jetson._is_jetson", lambda: False)
    runtime = targets.open_runtime(jetson_bundle, 1)
    assert isinstance(runtime, HostRuntime)
    runtime.close()
    out = tmp_path / "signed.json"
    assert "not on TensorRT" in run("verify", jetson_bundle.path, "--device", "--out", out).error(5)
    assert not out.exists()
    assert "TensorRT's Python module is not here" in run("build", jetson_bundle.path).error(5)


def test_on_a_jetson_without_tensorrt_nothing_stands_in(
    run: Runner, jetson_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MUE_EDGE_JETSON", raising=False)
    monkeypatch.setattr("mue_edge.targets.jetson._is_jetson", lambda: True)
    said = run("caption", jetson_bundle.path, picture(tmp_path / "a.png")).error(5)
    assert "python3-libnvinfer" in said
    monkeypatch.setenv("MUE_EDGE_JETSON", "abacus")
    assert "neither tensorrt nor onnxruntime" in run("verify", jetson_bundle.path).error(2)


def test_other_targets_need_no_build_and_sign_nothing(run: Runner, tiny_bundle: Path) -> None:
    assert "need no build" in run("build", tiny_bundle).error(2)
    assert "no sign-off on a device" in run("verify", tiny_bundle, "--device").error(2)


def sensors(folder: Path, *rails: tuple[str, int, int]) -> None:
    """As the kernel shows an INA3221: three channels, and the sum of their shunts, which has no current."""
    folder.mkdir()
    for i, (label, millivolts, milliamperes) in enumerate(rails, 1):
        (folder / f"in{i}_label").write_text(f"{label}\n")
        (folder / f"in{i}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{i}_input").write_text(f"{milliamperes}\n")
    (folder / "in7_label").write_text("sum of shunt voltages\n")
    (folder / "in7_input").write_text("12\n")


def test_power_is_that_of_the_rail_that_feeds_the_module(tmp_path: Path) -> None:
    """Orin Nano and NX."""
    folder = tmp_path / "hwmon1"
    sensors(folder, ("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 400), ("VDD_SOC", 5000, 300))
    assert power.watts(tmp_path) == pytest.approx(6.0) and list(power.rails(tmp_path)) == ["VDD_IN"]
    (folder / "in1_label").write_text("VDD_X\n")
    assert power.watts(tmp_path) is None and not power.rails(tmp_path)


def test_power_of_agx_orin_is_the_sum_of_its_rails(tmp_path: Path) -> None:
    sensors(tmp_path / "hwmon3", ("VDD_GPU_SOC", 19000, 200), ("VDD_CPU_CV", 19000, 100), ("VIN_SYS_5V0", 5000, 800))
    sensors(tmp_path / "hwmon4", ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 200), ("NC", 0, 0))
    assert power.watts(tmp_path) == pytest.approx(3.8 + 1.9 + 4.0)
    assert list(power.rails(tmp_path)) == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
    (tmp_path / "hwmon3" / "curr2_input").unlink()
    assert power.watts(tmp_path) is None, "a part is not the whole"


def test_energy_is_the_integral_of_power() -> None:
    assert power.integral([(0.0, 4.0), (1.0, 8.0), (3.0, 8.0)]) == pytest.approx(22.0)
    assert power.integral([(0.0, 4.0)]) is None
