"""The stem as an image input: the same states as from numbers, whatever mean and standard deviation are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.bundle.manifest import Preprocess
from mue_edge.errors import InputFileError, UsageError
from mue_edge.export.coreml import format as coreml
from mue_edge.export.coreml.lints import floats
from mue_edge.targets.coreml.packages import MODEL
from mue_edge.targets.coreml.runtime import levels
from mue_edge.targets.golden import pixels
from mue_edge.targets.mil.evaluator import Mode
from mue_edge.targets.mil.program import read
from tests.contract.cuts import SIDE, make_case
from tests.targets.mil.loading import load

OTHER = Preprocess(SIDE, SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SHOWN = np.random.Generator(np.random.PCG64(5)).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
PICTURE = torch.from_numpy(SHOWN.transpose(2, 0, 1)[None].copy())


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same stem in float32 and in halves, from a picture and from numbers."""
    folder, piece, made = tmp_path_factory.mktemp("stems"), make_case("prompt").cut.piece("stem"), {}
    for precision in ("fp32", "fp16"):
        for name, preprocess in (("picture", OTHER), ("numbers", None)):
            made[f"{precision} {name}"] = folder / f"{precision}-{name}.mlpackage"
            model = coreml.converted(piece, precision, "ios18", preprocess=preprocess)
            coreml.save(model, made[f"{precision} {name}"])
    return made


@pytest.mark.parametrize(
    ("precision", "mode", "error"),
    [("fp32", "fp32", 1e-5), ("fp16", "declared", 1e-2), ("fp16", "native", 1e-2)],
)  # fmt: skip
def test_a_picture_equals_its_numbers(precision: str, mode: Mode, error: float, stems: dict[str, Path]) -> None:
    numbers = torch.from_numpy(pixels(SHOWN, OTHER))
    shown, *_ = load(stems[f"{precision} picture"], mode=mode)({"pixels": PICTURE}).values()
    given, *_ = load(stems[f"{precision} numbers"], mode=mode)({"pixels": numbers}).values()
    with torch.no_grad():
        wanted, *_ = make_case("prompt").cut.piece("stem").module(numbers)
    torch.testing.assert_close(shown, given, atol=error, rtol=0, check_dtype=False)
    torch.testing.assert_close(shown, wanted, atol=error, rtol=0, check_dtype=False)


@pytest.mark.parametrize("p", [Preprocess(16, 16), OTHER])
def test_every_grey_level_comes_back(p: Preprocess) -> None:
    shown = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(levels(pixels(shown, p), p), shown.transpose(2, 0, 1)[None])


def test_a_picture_is_no_float32_input(stems: dict[str, Path]) -> None:
    """Nor is what takes its mean off, which Core ML does in float32."""
    assert not list(floats(read(stems["fp16 picture"]).functions["main"]))


def test_numbers_are_refused(stems: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="'pixels' is a picture"):
        load(stems["fp32 picture"])({"pixels": PICTURE.float()})


@pytest.mark.parametrize(("change", "words"), [("colorSpace", "not RGB"), ("width", r"picture of \(32, 30\)")])
def test_another_kind_of_picture_is_refused(change: str, words: str, stems: dict[str, Path], tmp_path: Path) -> None:
    source = stems["fp32 picture"]
    spec = coreml.ct.utils.load_spec(str(source))
    setattr(spec.description.input[0].type.imageType, change, 30)
    made = tmp_path / "made.mlpackage"
    (made / MODEL).parent.mkdir(parents=True)
    (made / "Manifest.json").write_bytes((source / "Manifest.json").read_bytes())
    (made / MODEL).write_bytes(spec.SerializeToString())
    with pytest.raises(InputFileError, match=words):
        load(made)
