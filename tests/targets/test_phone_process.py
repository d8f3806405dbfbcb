"""The phone's path where NumPy is blocked, as on an iPhone: the same captions, answers and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge import plain, targets
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.export.build import export
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import Position
from mue_edge.targets import tensors
from mue_edge.targets.tensors import Constants, StepBiases
from tests.targets.phone_process import Task, asked, outcome
from tests.test_imports import BLOCKER, HEAVY

POLICIES = (Policy("never", name="full"), Policy("mue", {"image": StackExit(0.9), "decoder": StackExit(0.9)}, beta=1.0))
# The app's modules that an iPhone imports beside what a caption does; Toga is another's.
APP = tuple(f"mue_edge.apps.phone.{name}" for name in ("devices", "ios", "reader", "reading", "wording"))
PHONE = BLOCKER.format(blocked={*HEAVY, "numpy", "click"}, modules=[])


def pictures(folder: Path) -> tuple[Path, ...]:
    """Colours, 16 bits of grey, and transparency."""
    random = np.random.Generator(np.random.PCG64(5))
    made = {
        "noise.png": Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8)),
        "deep.png": Image.fromarray(random.integers(0, 65536, (50, 50), np.uint16)),
        "clear.png": Image.fromarray(random.integers(0, 256, (33, 20, 4), np.uint8)),
    }
    for name, picture in made.items():
        picture.save(folder / name)
    return tuple(folder / name for name in made)


def compared(bundle: Path, task: Task) -> None:
    with targets.open_session(bundle) as session:
        wanted = [outcome(session, x, p, task.statement) for x in task.pictures for p in task.policies]
    assert asked(task, PHONE) == wanted
    assert len({str(found) for found in wanted}) == len(wanted)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_captions(tiny_model_folder: Path, tmp_path: Path, precision: str) -> None:
    bundle = tmp_path / "bundle"
    export(tiny_model_folder, bundle, "iphone", {"precision": precision})
    compared(bundle, Task(bundle, pictures(tmp_path), POLICIES, modules=APP))


def test_statements(tiny_entail_folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export(tiny_entail_folder, bundle, "iphone", {"precision": "fp16"})
    compared(bundle, Task(bundle, pictures(tmp_path)[:2], POLICIES[:1], "a b"))


@pytest.fixture
def both(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a bundle, what `make` makes with NumPy and without."""

    def made(make: Any) -> tuple[Any, Any]:
        theirs = make(open_bundle(tiny_bundle))
        with monkeypatch.context() as patch:
            patch.setattr(tensors, "np", plain)
            return make(open_bundle(tiny_bundle)), theirs

    return made


def test_biases_of_beams_and_drafts(both: Any) -> None:
    """What greedy captions do not ask for."""

    def biases(bundle: Bundle) -> list[Any]:
        steps = StepBiases(Constants(bundle), 12)
        beam = Position(2, ((0, 3), (1, 4), (0, 5)))
        draft = Position(1, ((0,), (0,)), together=True)
        ports = ("slot_bias", "own_bias", "cross_bias")
        found = [steps.bias(port, 0, beam, 3) for port in ports]
        found += [steps.bias("slot_bias", 1, Position(0, ((),)), 1)]
        found += [steps.bias(port, 0, draft, 4) for port in ports]
        constants = Constants(bundle)
        return [*found, *(constants.typed(name, "float16") for name in bundle.manifest.constants)]

    ours, theirs = both(biases)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape and mine.dtype == other.dtype and mine.tobytes() == other.tobytes()
