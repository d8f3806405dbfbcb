"""Heads for exit tests: what they are fitted to, and that a fitted one foretells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from torch.nn import functional as F

from mue_edge.calibrate.training.head_training import train
from mue_edge.calibrate.training.teachers import StatementBatch, answer_teacher, caption_teacher
from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.models import heads
from mue_edge.models.ofa.cutting.decoder_segments import Confidence, Imitation, Ramp, Words
from mue_edge.models.ofa.cutting.encoder_segments import Gate, Stem
from mue_edge.models.ofa.decoding.greedy import greedy
from mue_edge.models.ofa.model import head_sizes
from mue_edge.models.ofa.network.exits import options_for
from mue_edge.models.ofa.training import captions as training
from tests.models.ofa.tiny import TINY, make

PROMPT = [0, 5, 6, 7, 2]
ANSWERS = (9, 11, 13)


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pairs(count: int, seed: int = 0) -> StatementBatch:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 7, (count,), generator=rng).tolist()
    words = [torch.randint(4, 20, (n,), generator=rng).tolist() for n in lengths]
    return StatementBatch(pictures(count, seed), tuple((TINY.bos, *row, TINY.eos) for row in words))


def test_steps_are_the_words_of_greedy_captions() -> None:
    model, pixels = make(decomposed=True), pictures(3)
    found = training.steps(model, PROMPT, pixels, torch.Generator().manual_seed(0), 24)
    drawn = int(torch.randint(1, TINY.encoder_layers + 1, (), generator=torch.Generator().manual_seed(0)))
    words = greedy(model, PROMPT, pixels, max_length=24, encoder_depth=drawn)
    assert len(found.states) == sum(min(24, len(w) + 1) for w in words)
    assert found.states.shape[1:] == (TINY.decoder_layers + 1, TINY.decoder_dim)
    logits = model.decoder.project(found.states)
    logits[..., [TINY.pad, TINY.bos]] = -torch.inf
    best = logits.argmax(-1)
    assert best[0, -1] == (words[0] or [TINY.eos])[0]
    assert torch.equal(found.same, best[:, 1:-1] == best[:, -1:])
    assert found.margin.min() > 0 and found.margin.max() < 1


def test_a_head_learns_the_margin() -> None:
    model = make(decomposed=True)
    batches = [pictures(4, seed) for seed in range(5)]
    found = train("confidence", caption_teacher(model, PROMPT), batches)
    assert [b.depth for b in found.boundaries] == [1, 2]
    assert set(found.boundaries[0].auc) == {"head", "similarity", "margin"}
    held = training.steps(model, PROMPT, batches[0], torch.Generator().manual_seed(0), 24)
    for depth in (1, 2):
        told = torch.sigmoid(Confidence(heads.of_depth(found.tensors, depth))(held.states[:, depth]))
        both = torch.corrcoef(torch.stack([told, held.margin[:, depth - 1]]))
        assert both[0, 1] > 0.5, depth
    with pytest.raises(UsageError, match="at least two batches"):
        train("confidence", caption_teacher(model, PROMPT), batches[:1])


@pytest.mark.parametrize("task", ["captions", "answers"])
def test_the_few_words_are_the_most_frequent_and_have_the_heads_logits(task: str) -> None:
    model = make(decomposed=True)
    teacher: Any = (
        caption_teacher(model, PROMPT) if task == "captions" else answer_teacher(model, ANSWERS, TINY.bos, (1, 1))
    )
    batches: list[Any] = [pictures(16, seed) if task == "captions" else pairs(96, seed) for seed in range(3)]
    tensors = train("confidence", teacher, batches).tensors
    shown = teacher.steps(batches[0], torch.Generator().manual_seed(9)).states[:, 1]
    logits = teacher.logits(shown)
    rows, most = tensors["words.weight"], len(ANSWERS) if task == "answers" else TINY.decoder_dim * 3 // 2
    assert len(rows) == min(most, int(logits[0].isfinite().sum()))
    mine = Words(heads.of_depth(tensors, 1)).eval()
    found = mine.rows(mine.norm(shown))
    # Each row is one word's: the nearest column of the head's logits is it.
    apart = torch.cdist(found.T, logits[:, logits[0].isfinite()].T)
    assert apart.min(1).values.max() < 1e-2 * apart.median()
    assert len(set(apart.argmin(1).tolist())) == len(rows)


def test_heads_of_before_the_few_words_are_read(tmp_path: Path) -> None:
    sizes = heads.Sizes(3, 4, 3, 4)
    made = {f"{k}.{name}": torch.randn(shape) for k in (1, 2) for name, shape in (("weight", (4,)), ("bias", ()))}
    heads.write(tmp_path, {"confidence": made})
    again = heads.read(tmp_path, sizes)["confidence"]
    y = torch.randn(5, 4)
    told = Confidence(heads.of_depth(again, 2))(y)
    torch.testing.assert_close(told, y @ made["2.weight"] + made["2.bias"])
    heads.write(tmp_path, {"confidence": made | {"1.sure": torch.zeros(2)}})
    with pytest.raises(InputFileError, match="confidence heads"):
        heads.read(tmp_path, sizes)


def test_a_gate_learns_which_depth_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of dark pictures one layer is, of bright ones only all are."""

    def by_depth(
        model: object, prompt: object, pixels: torch.Tensor, cells: list[tuple[int, int]], *, max_length: int
    ) -> dict[tuple[int, int], list[list[int]]]:
        bright = (pixels.mean((1, 2, 3)) > 0).tolist()
        return {(i, d): [[i if b else 0] for b in bright] for i, d in cells}

    monkeypatch.setattr(training, "greedy_by_depth", by_depth)
    model = make(decomposed=True)
    shades = torch.rand(12, 16, 1, 1, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batches = [0.1 * pictures(16, i) + s for i, s in enumerate(shades)]
    found = train("gate", caption_teacher(model, PROMPT), batches)
    assert [b.auc["head"] for b in found.boundaries] == pytest.approx([1, 1], abs=0.05)
    shapes = heads.KINDS["gate"](head_sizes(TINY))
    assert {name: tuple(t.shape) for name, t in found.tensors.items()} == shapes
    # The exported stem says the same of a picture as the training.
    stem = Stem(model.encoder, gate=Gate(found.tensors)).eval()
    _, logits = stem(pictures(1))
    t, features = found.tensors, training.features(model, pictures(1))
    hidden = torch.relu(F.linear(features, t["hidden.weight"], t["hidden.bias"]))
    wanted = F.linear(hidden, t["out.weight"], t["out.bias"])
    torch.testing.assert_close(logits, wanted[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "module"), [("foresight", Imitation), ("ramps", Ramp)])
@pytest.mark.parametrize("task", ["captions", "answers"])
def test_what_the_head_reads_instead_brings_the_last_layers_word_nearer(kind: str, module: Any, task: str) -> None:
    model = make(decomposed=True)
    teacher: Any = (
        caption_teacher(model, PROMPT) if task == "captions" else answer_teacher(model, ANSWERS, TINY.bos, (1, 1))
    )
    batches: list[Any] = [pictures(4, seed) if task == "captions" else pairs(4, seed) for seed in range(6)]
    found = train(kind, teacher, batches)
    shapes = {name: tuple(t.shape) for name, t in found.tensors.items()}
    assert shapes == heads.KINDS[kind](head_sizes(TINY))
    shown = teacher.steps(batches[-1], torch.Generator().manual_seed(9))
    last = teacher.logits(shown.states[:, -1]).argmax(-1)
    for b in found.boundaries:
        there = shown.states[:, b.depth]
        mapped = module(heads.of_depth(found.tensors, b.depth))(there)
        plain, own = (F.cross_entropy(teacher.logits(states), last) for states in (there, mapped))
        assert own < plain, b.depth


@pytest.mark.parametrize("decomposed", [True, False])
@pytest.mark.parametrize("fed", [(), (1, 1), (2, 1)])
def test_steps_of_answers_are_the_last_word_fed_at_the_depths_drawn(decomposed: bool, fed: tuple[int, ...]) -> None:
    """As one statement alone runs, whatever it is padded with in a batch."""
    model, batch = make(decomposed=decomposed), pairs(3, 1)
    teacher = answer_teacher(model, ANSWERS, TINY.bos, fed)
    found = teacher.steps(batch, torch.Generator().manual_seed(4))
    drawn = torch.randint(1, TINY.encoder_layers + 1, (2,), generator=torch.Generator().manual_seed(4))
    image, text = drawn.tolist()
    for i, ids in enumerate(batch.sources):
        pixels, words = batch.pixels[i : i + 1], torch.tensor([ids])
        if decomposed:
            encoded = model.encoder.encode(words, pixels, depths={"image": image, "text": text})
        else:
            encoded = model.encoder.encode(words, pixels, depths={"encoder": image})
        prompt = torch.tensor([[TINY.bos, *ids[fed[0] : -fed[1]]] if fed else [TINY.bos]])
        with torch.no_grad():
            states = torch.stack([x[0, -1] for x in model.decoder.hidden_states(prompt, encoded)])
        torch.testing.assert_close(found.states[i], states, atol=1e-5, rtol=1e-5)
    best = teacher.logits(found.states).argmax(-1)
    assert torch.equal(found.same, best[:, 1:-1] == best[:, -1:])


def test_what_an_encoder_depth_keeps_is_what_its_answer_is() -> None:
    model, batch = make(decomposed=True), pairs(12, 1)
    kept = answer_teacher(model, ANSWERS, TINY.bos, ()).kept(batch)
    words = torch.tensor([[TINY.bos]]).expand(12, -1)
    answers = []
    for depth in range(1, TINY.encoder_layers + 1):
        found = []
        for i, ids in enumerate(batch.sources):
            encoded = model.encoder.encode(torch.tensor([ids]), batch.pixels[i : i + 1], depths={"image": depth})
            with torch.no_grad():
                last = model.decoder.project(model.decoder.hidden_states(words[:1], encoded)[-1])
            found.append(int(last[0, -1, list(ANSWERS)].argmax()))
        answers.append(found)
    assert kept.T.tolist() == [[own == full for own, full in zip(a, answers[-1])] for a in answers[:-1]]


def test_heads_are_kept_beside_the_weights_and_checked(tmp_path: Path) -> None:
    sizes, other = heads.Sizes(3, 4, 3, 4), heads.Sizes(3, 4, 4, 4)
    assert heads.read(tmp_path, sizes) == {}
    made = {
        kind: {name: torch.randn([7 if n == heads.FREE else n for n in shape]) for name, shape in shapes(sizes).items()}
        for kind, shapes in heads.KINDS.items()
    }
    heads.write(tmp_path, made)
    again = heads.read(tmp_path, sizes)
    assert again.keys() == made.keys()
    assert all(torch.equal(made[kind][name], again[kind][name]) for kind in made for name in made[kind])
    with pytest.raises(InputFileError, match=r"confidence heads .* 3 \+ 4 layers.*train --heads"):
        heads.read(tmp_path, other)
    made["confidence"]["1.weight"][0] = torch.nan
    heads.write(tmp_path, made)
    with pytest.raises(InputFileError, match="not finite"):
        heads.read(tmp_path, sizes)
    heads.write(tmp_path, {"crystal-ball": made["gate"]})
    with pytest.raises(InputFileError, match="kind 'crystal-ball'; known: confidence, gate, foresight, ramps"):
        heads.read(tmp_path, sizes)


def test_the_torch_model_knows_similarity_only() -> None:
    with pytest.raises(UsageError, match="leaves no layer out"):
        options_for(Policy("uniform-skip", {"decoder": StackExit(depth=1)}), None)
    with pytest.raises(UsageError, match="similarity only, not margin"):
        options_for(Policy("calm-softmax", {"decoder": StackExit(0.5)}), None)
