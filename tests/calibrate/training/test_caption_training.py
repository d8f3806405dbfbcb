"""Training on captions: batches over processes, splits, frozen BatchNorm, cut logs."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mue_edge import models
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data import pictures
from mue_edge.calibrate.data.examples import Example, read, reference_text
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.calibrate.data.samples import of_pictures
from mue_edge.calibrate.training import teachers
from mue_edge.calibrate.training.caption_batches import CaptionBatches, targets
from mue_edge.calibrate.training.caption_training import CaptionRun, Learner, Recipe, learner, split
from mue_edge.calibrate.training.finetune import TrainingSettings
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs import image
from mue_edge.models.ofa.training import captions as training
from tests.calibrate import captioned

SIZE = Preprocess(32, 32)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("captioned")
    return captioned.model_folder(root / "model"), captioned.pictures(root / "data")


@pytest.fixture(scope="module")
def shown(places: tuple[Path, Path]) -> Pictures:
    return Pictures(read(places[1]), SIZE)


def _batches(shown: Pictures, batch: int = 6, **options: int | bool) -> CaptionBatches:
    learned, _ = targets(shown.examples, captioned.tokenizer(), 30)
    return CaptionBatches(shown, learned, batch, 3, 1, **options)  # type: ignore[arg-type]


def test_pictures_are_those_of_the_device(places: tuple[Path, Path], shown: Pictures) -> None:
    file = shown.examples[2].picture
    assert isinstance(file, Path)
    expected = torch.from_numpy(image.preprocess(image.load(file).rgb, 32, 32))
    assert torch.allclose(shown.inputs([2]), expected, atol=1e-6)
    unkept = Pictures(shown.examples, SIZE, keep_bytes=0)
    assert torch.equal(unkept.pixels([2, 5]), shown.pixels([2, 5]))


def test_a_models_own_mean_and_deviation(places: tuple[Path, Path], shown: Pictures) -> None:
    """In training and validation, varied or not, and in what heads are fitted on: as on the device."""
    p = Preprocess(32, 32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    own = Pictures(shown.examples, p)
    files = [example.picture for example in shown.examples if isinstance(example.picture, Path)]
    seen = [image.preprocess(image.load(file).rgb, 32, 32, p.mean, p.std) for file in files]
    expected = torch.from_numpy(np.concatenate(seen))
    assert torch.allclose(own.inputs(range(len(own))), expected, atol=1e-6)
    fitted = teachers.batches(of_pictures(files, "pictures"), p, batch=5)
    assert torch.equal(torch.cat([x for x in fitted if isinstance(x, torch.Tensor)]), expected)

    plain, varied = _batches(own)(0).pixels, _batches(own, augment=True)(0).pixels
    assert all(bool((expected - x).abs().flatten(1).amax(1).min() < 1e-6) for x in plain)
    levels = varied * torch.tensor(p.std).view(3, 1, 1) + torch.tensor(p.mean).view(3, 1, 1)
    halves = _batches(shown, augment=True)(0).pixels / 2 + 0.5
    assert torch.allclose(levels, halves, atol=1e-6)


def test_pictures_are_decoded_when_used_and_kept_as_far_as_they_fit(
    shown: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    really = pictures.resized

    def resized(example: Example, p: Preprocess) -> NDArray[np.uint8]:
        decoded.append(example.id)
        return really(example, p)

    monkeypatch.setattr(pictures, "resized", resized)
    lazy = Pictures(shown.examples, SIZE, keep_bytes=2 * 3 * 32 * 32 + 1)
    assert decoded == []
    for _ in range(2):
        lazy.pixels([4, 1, 6])
    assert decoded == [shown.examples[i].id for i in (4, 1, 6, 6)]


def _damaged(folder: Path, kind: str) -> Path:
    """A picture file that has lost its second half."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    path = folder / f"half.{kind}"
    PIL.Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif", "bmp"])
def test_a_picture_that_is_cut_short_is_found_at_the_start(shown: Pictures, tmp_path: Path, kind: str) -> None:
    half = Example("half", _damaged(tmp_path, kind), ("x",), "table, line 9")
    with pytest.raises(InputFileError, match=f"1 of 13 .*line 9: .*half\\.{kind}.*--skip-bad"):
        Pictures([half, *shown.examples], SIZE)


def test_damage_that_shows_late_names_the_cure(tmp_path: Path) -> None:
    path = _damaged(tmp_path, "jpg")
    path.write_bytes(path.read_bytes() + b"\xff\xd9")  # header and end are those of a sound one
    with path.open("r+b") as file:
        place = path.read_bytes().index(b"\xff\xc4")  # a Huffman table
        file.seek(place + 4)
        file.write(b"\xff" * 17)
    late = Example("late", path, ("x",), "table, line 2")
    with pytest.raises(InputFileError, match=r"line 2: .*half.*sound picture in its place"):
        Pictures([late], SIZE).pixels([0])
    with pytest.raises(InputFileError, match="1 of 1"):
        Pictures([late], SIZE, skip_bad=True)


def test_many_bad_pictures_are_counted(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    bad = [Example(str(i), tmp_path / "bad.png", ("x",), f"line {i}") for i in range(13)]
    with pytest.raises(InputFileError, match=r"13 of 13 .*line 9: .*\(and 3 more\)") as problem:
        Pictures(bad, SIZE)
    assert "line 10" not in str(problem.value)


def test_embedded_pictures_are_checked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (9, 9), "red").save(buffer, "JPEG")
    whole = base64.b64encode(buffer.getvalue())
    rows = [whole, whole[:-40], b"!!!!", base64.b64encode(b"no picture")]
    table = tmp_path / "a.tsv"
    table.write_bytes(b"".join(b"u\ti%d\ta\t\t%s\n" % row for row in enumerate(rows)))
    message = r"3 of 4 .*line 2.*; .*line 3: the picture is no base64.*; .*line 4: the given bytes"
    with pytest.raises(InputFileError, match=message):
        Pictures(read(table), Preprocess(8, 8))
    assert len(Pictures(read(table), Preprocess(8, 8), skip_bad=True)) == 1


def test_a_bad_picture_stops_or_is_left_out(shown: Pictures, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bad = Example("bad", tmp_path / "bad.png", ("x",), "table, line 9")
    with pytest.raises(InputFileError, match=r"table, line 9: .*bad\.png.*--skip-bad"):
        Pictures([bad, *shown.examples], SIZE)
    kept = Pictures([bad, *shown.examples], SIZE, skip_bad=True)
    assert len(kept) == len(shown)
    assert len(kept.problems) == 1
    assert torch.equal(kept.pixels([0]), shown.pixels([0]))
    with pytest.raises(InputFileError, match=r"^1 of 1 pictures cannot be used"):
        Pictures([bad], SIZE, skip_bad=True)


def test_captions_become_targets() -> None:
    tokenizer = captioned.tokenizer()
    examples = [Example("1", Path("1"), ("Red!", "green green"), "t"), Example("2", Path("2"), ("xylitol",), "t")]
    found, notes = targets(examples, tokenizer, 6)
    assert [t.row for t in found] == [0, 0, 1]
    assert tokenizer.caption(found[0].ids) == "red"
    assert found[0].ids[0] == tokenizer.bos
    assert [len(t.ids) for t in found[1:]] == [8, 8]  # six tokens, bos, eos
    assert all(t.ids[-1] == tokenizer.eos for t in found)
    assert notes == [
        "2 of 3 captions were cut to 6 tokens (--max-tokens)",
        "1 of 3 captions hold pieces that the vocabulary lacks",
    ]
    assert reference_text(tokenizer, " A-b,  C ") == "ab c"


def test_an_epoch_sees_every_caption_once(shown: Pictures) -> None:
    batches = _batches(shown, 5)
    assert batches.steps_per_epoch == 2
    epoch = [tuple(row) for step in (0, 1) for row in batches(step).tokens.tolist()]
    other = [tuple(row) for step in (2, 3) for row in batches(step).tokens.tolist()]
    assert len(epoch) == 10
    assert epoch != other
    assert torch.equal(batches(3).pixels, _batches(shown, 5)(3).pixels)


def test_processes_share_a_step(shown: Pictures) -> None:
    whole = _batches(shown)(1)
    parts = [_batches(shown, rank=rank, world=2)(1) for rank in (0, 1)]
    assert torch.equal(torch.cat([p.pixels for p in parts]).sort(0)[0], whole.pixels.sort(0)[0])
    assert [p.words for p in parts] == [whole.words] * 2
    assert sum(int(p.tokens[:, 1:].ne(1).sum()) for p in parts) == whole.words
    varied = _batches(shown, augment=True)(1).pixels
    shared = [_batches(shown, augment=True, rank=rank, world=2)(1).pixels for rank in (0, 1)]
    assert torch.equal(varied[0::2], shared[0])
    assert torch.equal(varied[1::2], shared[1])
    with pytest.raises(UsageError, match="3 processes cannot share a step of 2"):
        _batches(shown, 2, world=3)


def test_augmented_pictures_are_repeatable_and_near(shown: Pictures) -> None:
    plain, moved = _batches(shown)(0).pixels, _batches(shown, augment=True)(0).pixels
    assert torch.equal(moved, _batches(shown, augment=True)(0).pixels)
    assert not torch.equal(moved, _batches(shown, augment=True)(1).pixels)
    assert 0.01 < float((moved - plain).abs().mean()) < 0.6


@pytest.mark.parametrize("decomposed", [True, False])
def test_the_loss_is_that_of_the_layers(places: tuple[Path, Path], shown: Pictures, decomposed: bool) -> None:
    pupil = learner(places[0], decomposed)
    share = _batches(shown)(0)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        total, by_layer = training.loss(pupil.model, pupil.prompt, share.pixels, share.tokens)
        mean, _ = training.loss(pupil.model, pupil.prompt, share.pixels, share.tokens, over_layers="mean")
        drawn = [
            float(training.loss(pupil.model, pupil.prompt, share.pixels, share.tokens, shallow=1.0, rng=rng)[0])
            for _ in range(6)
        ]
        source = torch.tensor([pupil.prompt]).expand(6, -1)
        encoded = pupil.model.encode(source, share.pixels, decomposed=decomposed)  # type: ignore[operator]
        logits = pupil.model.decode(share.tokens[:, :-1], encoded)  # type: ignore[operator]
        last = nn.functional.cross_entropy(
            logits.flatten(0, 1), share.tokens[:, 1:].flatten(), ignore_index=1, reduction="sum"
        )
    assert float(total) == pytest.approx(float(by_layer.sum()), rel=1e-5)
    assert float(mean) == pytest.approx(float(total) / 2, rel=1e-5)
    assert float(by_layer[1]) == pytest.approx(float(last), rel=1e-4)
    assert len({round(value, 3) for value in drawn}) > 1


def test_a_split_keeps_its_pictures(shown: Pictures) -> None:
    many = [Example(str(i), Path("x"), ("a",), "t") for i in range(400)]
    left, held = split(many, 0.2)
    assert 50 < len(held) < 110
    assert len(left) + len(held) == 400
    assert set(held) & set(split(many[:100], 0.2)[1]) == set(held) & set(many[:100])
    assert split(many, 0.0)[1] == []


def _run(places: tuple[Path, Path], shown: Pictures, out: Path, *, trained: bool, steps: int = 3) -> Learner:
    pupil = learner(places[0], None)
    settings = TrainingSettings(steps=steps, bf16=False, log_every=2, ema=0.5, save_every=0.0)
    run = CaptionRun(pupil, Recipe(train_batchnorm=trained), settings, _batches(shown), None, out)
    run.run({"steps": steps}, lambda _state, _figures: None)
    return pupil


@pytest.mark.parametrize("trained", [True, False])
def test_batchnorm_is_frozen_unless_asked(
    places: tuple[Path, Path], shown: Pictures, tmp_path: Path, trained: bool
) -> None:
    _run(places, shown, tmp_path / "run", trained=trained)
    before, after = (models.load(places[0]).state_dict(), models.load(tmp_path / "run/model").state_dict())
    name = "encoder.embed_images.bn1.running_mean"
    assert torch.equal(before[name], after[name]) is not trained
    assert not torch.equal(before["decoder.layers.0.fc1.weight"], after["decoder.layers.0.fc1.weight"])


def test_a_run_is_one_command(places: tuple[Path, Path], shown: Pictures, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _run(places, shown, out, trained=False)
    log = (out / "log.jsonl").read_text()
    assert [json.loads(line)["step"] for line in log.splitlines() if "loss" in line] == [2, 3]
    (out / "model" / "model.safetensors").unlink()
    _run(places, shown, out, trained=False)  # over already: only the model is written again
    assert (out / "log.jsonl").read_text() == log
    assert (out / "model" / "model.safetensors").is_file()
    with pytest.raises(UsageError, match="another steps"):
        _run(places, shown, out, trained=False, steps=4)
    with pytest.raises(UsageError, match="holds other things"):
        _run(places, shown, places[1], trained=False)


def test_what_a_model_knew_is_not_what_it_knows(places: tuple[Path, Path], shown: Pictures, tmp_path: Path) -> None:
    before = Path(shutil.copytree(places[0], tmp_path / "before"))
    asked = json.loads((before / "prompts.json").read_text())
    knowing = {"caption": asked["caption"] | {"knows": "red squares only"}}
    (before / "prompts.json").write_text(json.dumps(knowing))
    _run((before, places[1]), shown, tmp_path / "run", trained=False, steps=1)
    assert json.loads((tmp_path / "run" / "model" / "prompts.json").read_text()) == asked


def test_lines_that_a_kill_undid_are_cut(places: tuple[Path, Path], shown: Pictures, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _run(places, shown, out, trained=False)
    log = (out / "log.jsonl").read_text()
    with (out / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 1.0}\n{"step": 1')
    _run(places, shown, out, trained=False)
    assert (out / "log.jsonl").read_text() == log


def test_a_folder_without_words_cannot_learn(places: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((places[0] / name).read_bytes())
    with pytest.raises(InputFileError, match=r"no tokenizer\.json"):
        learner(tmp_path, None)
