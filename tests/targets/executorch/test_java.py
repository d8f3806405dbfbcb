"""The Android adapter on a real JVM: Java classes with ExecuTorch's names and signatures stand in for it.

Nothing here runs on a phone. The stand-in answers with what ONNX Runtime computed, so that captions and
decision logs must equal the host's; it checks every input, and overwrites what it returned at the next call.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
jpype = pytest.importorskip("jpype", reason="pip install JPype1")
if shutil.which("javac") is None:
    pytest.skip("no JDK here: javac is missing", allow_module_level=True)

from mue_edge import targets  # noqa: E402
from mue_edge.bundle.folder import Bundle, open_bundle  # noqa: E402
from mue_edge.bundle.manifest import Port  # noqa: E402
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError  # noqa: E402
from mue_edge.loop.driver import Runtime  # noqa: E402
from mue_edge.loop.policy import ExitPolicy, Policy, StackExit  # noqa: E402
from mue_edge.loop.replay import DecisionLog, decision_log, run  # noqa: E402
from mue_edge.targets.executorch.java import JavaBridge, Module, chaquopy  # noqa: E402
from mue_edge.targets.executorch.methods import MethodsRuntime  # noqa: E402
from tests.contract.cuts import UP_AND_DOWN  # noqa: E402
from tests.targets.recording import Recorder  # noqa: E402

PICTURES = 50
# Full depth; exits by score; steps that skip layers which later steps fill.
POLICIES: tuple[ExitPolicy, ...] = (
    Policy("never"),
    Policy("mue", {"image": StackExit(0.9), "decoder": StackExit(0.9)}, beta=1.0),
    UP_AND_DOWN,
)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> JavaBridge:
    """JPype in Chaquopy's place; tools/kotlin_adapter.py names classes of the library's own sources."""
    real = os.environ.get("MUE_EDGE_EXECUTORCH_CLASSES", "")
    classes = real.split(os.pathsep) if real else [str(tmp_path_factory.mktemp("classes"))]
    if not real:
        sources = sorted((Path(__file__).parent / "java").rglob("*.java"))
        subprocess.run(["javac", "-d", classes[0], *map(str, sources)], check=True)
    if not jpype.isJVMStarted():
        jpype.startJVM("-Xmx256m", classpath=classes, convertStrings=False)
    return JavaBridge(jpype.JClass, jpype.JArray(jpype.JByte), jpype.JArray(jpype.JLong))


@pytest.fixture(scope="module")
def host(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Calls of some captions, with the logs that they led to."""

    recorder: Recorder
    logs: list[DecisionLog]


def captions(bundle: Bundle, runtime: Runtime, count: int) -> Iterator[DecisionLog]:
    layout, settings = bundle.manifest.layout, bundle.manifest.search
    for i in range(count):
        runtime.set_pixels(np.random.default_rng(i).uniform(-1, 1, (1, 3, 48, 48)).astype(np.float32))
        policy = POLICIES[i % len(POLICIES)]
        yield decision_log(run(layout, settings, policy, runtime, trace=i % 2 == 0))


@pytest.fixture(scope="module")
def recorded(host: Bundle) -> Recorded:
    recorder = Recorder(host)
    return Recorded(recorder, list(captions(host, MethodsRuntime(host, recorder), PICTURES)))


Opened = Callable[..., Module]


@pytest.fixture
def opened(host: Bundle, recorded: Recorded, bridge: JavaBridge, tmp_path: Path) -> Opened:
    """A module over the recording; options as for `Recorder.write`."""

    def module(**options: Any) -> Module:
        path = recorded.recorder.write(tmp_path / "model.pte", **options)
        return Module(path, host.manifest.segments, 3, bridge)

    return module


def test_captions_and_logs_are_the_hosts(host: Bundle, recorded: Recorded, opened: Opened) -> None:
    wanted = list(captions(host, targets.open_runtime(host, 1), PICTURES))
    assert {depth for log in wanted for depth in log.decoder} == {1, 2, 3}
    module = opened()
    found = list(captions(host, MethodsRuntime(host, module), PICTURES))
    assert found == recorded.logs
    for mine, theirs in zip(found, wanted):
        assert (mine.tokens, mine.depths, mine.decoder) == (theirs.tokens, theirs.depths, theirs.decoder)
        assert [min(s.scores) for s in mine.scores] == pytest.approx([min(s.scores) for s in theirs.scores], abs=1e-6)
    assert jpype.JClass("org.pytorch.executorch.Recording").threads == 3


def test_a_view_that_is_kept_would_not_pass(host: Bundle, opened: Opened) -> None:
    """The stand-in does poison: without the copy, the same captions cannot be made."""
    module = opened()
    module._copy = lambda segment, name, view: view  # type: ignore[method-assign]
    with pytest.raises(InputFileError, match="has other values"):
        list(captions(host, MethodsRuntime(host, module), 1))


def test_methods_that_cannot_be_loaded(recorded: Recorded, opened: Opened) -> None:
    """`loadMethod` returns nothing; it throws."""
    module = opened(without="stem")
    module._known.add("stem")
    with pytest.raises(InputFileError, match=r"load method stem: ExecuTorch says: .*Failed to load method"):
        module.run("stem", [stem_input(module, recorded)])


def test_buffers_are_made_once(host: Bundle, opened: Opened) -> None:
    """Direct ones count on the Java heap of old Androids: one an output, and one for each of the host's
    arrays, however many steps there are; and none is kept for an array that is gone."""
    module, made = opened(), list[int]()
    real = module._direct
    module._direct = lambda size: made.append(size) or real(size)  # type: ignore[method-assign, func-returns-value]
    runtime = MethodsRuntime(host, module)
    list(captions(host, runtime, 3))
    outputs = sum(len(segment.outputs) for segment in host.manifest.segments.values())
    assert len(made) < outputs + len(runtime._sides)
    array = np.zeros((1, 3, 48, 48), np.float32)
    kept, tensor = len(module._inputs), module.tensor(array)
    assert module.tensor(array) is tensor and len(module._inputs) == kept + 1
    del array
    assert len(module._inputs) == kept


def stem_input(module: Module, recorded: Recorded) -> Any:
    return module.tensor(recorded.recorder.calls[0][1][0])


def test_outputs_that_nobody_planned_are_an_error(recorded: Recorded, opened: Opened) -> None:
    module = opened(planned=False)
    with pytest.raises(InputFileError, match="no memory for the outputs of stem"):
        module.run("stem", [stem_input(module, recorded)])


def test_a_missing_method_names_those_that_exist(opened: Opened) -> None:
    with pytest.raises(InputFileError, match=r"no method 'stem'; it has: .*image_0"):
        opened(without="stem").run("stem", [])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 3, 48, 47), np.float32), r"pixels is FLOAT \[1, 3, 48, 47\], not float32 \[1, 3, 48"),
        (np.zeros((1, 3, 48, 48), np.int64), "pixels is INT64"),
        (np.zeros((1, 3, 48, 48), np.float64), "not float64"),
    ],
)
def test_wrong_tensors_are_refused_here(opened: Opened, array: np.ndarray[Any, Any], words: str) -> None:
    module = opened()
    with pytest.raises(UsageError, match=words):
        module.run("stem", [module.tensor(array)])
    with pytest.raises(UsageError, match="has 1 inputs, not 0"):
        module.run("stem", [])


def test_wrong_tensors_on_the_java_side_are_typed_errors(
    host: Bundle, recorded: Recorded, bridge: JavaBridge, tmp_path: Path
) -> None:
    """A manifest that the program does not fit: its shape is refused by Java, its outputs by us."""
    path = recorded.recorder.write(tmp_path / "model.pte")
    stem = host.manifest.segments["stem"]
    small = dataclasses.replace(stem, inputs={"pixels": Port((1, 3, 4, 4))})
    module = Module(path, {"stem": small}, 1, bridge)
    with pytest.raises(InputFileError, match=r"segment stem: ExecuTorch says: .*FLOAT\[1, 3, 4, 4\]"):
        module.run("stem", [module.tensor(np.zeros((1, 3, 4, 4), np.float32))])
    other = dataclasses.replace(stem, outputs={"x": Port((1, 1, 1))})
    module = Module(path, {"stem": other}, 1, bridge)
    with pytest.raises(InputFileError, match=r"output x is FLOAT .*, not float32 \[1, 1, 1\]"):
        module.run("stem", [stem_input(module, recorded)])


def test_files_that_are_no_program(host: Bundle, bridge: JavaBridge, tmp_path: Path) -> None:
    (tmp_path / "bad.pte").write_bytes(b"something else")
    with pytest.raises(InputFileError, match="Failed to load program"):
        Module(tmp_path / "bad.pte", host.manifest.segments, 1, bridge)
    with pytest.raises(InputFileError, match="path does not exist"):
        Module(tmp_path / "none.pte", host.manifest.segments, 1, bridge)


def test_after_closing_nothing_runs(recorded: Recorded, opened: Opened) -> None:
    module = opened()
    pixels = stem_input(module, recorded)
    module.close()
    with pytest.raises(InputFileError, match=r"load method stem: ExecuTorch says: .*destroyed"):
        module.run("stem", [pixels])


def test_the_right_bridge_is_asked_for(host: Bundle, bridge: JavaBridge, tmp_path: Path) -> None:
    if "java" not in sys.modules:
        with pytest.raises(EnvironmentLacksError, match="Chaquopy or Briefcase"):
            chaquopy()
    bare = dataclasses.replace(bridge, jclass=lambda name: jpype.JClass(f"missing.{name}"))
    with pytest.raises(EnvironmentLacksError, match="executorch-android"):
        Module(tmp_path / "model.pte", host.manifest.segments, 1, bare)
