"""Cached greedy decoding at many depths against the plain way, which runs the whole prefix every step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.models.ofa.decoding.greedy import greedy, greedy_by_depth
from mue_edge.models.ofa.model import Model
from tests.models.ofa import tiny

PROMPT = [0, 5, 6, 24]
CELLS = [(image, depth) for image in (3, 1, 2) for depth in (1, 3, 2)]


def plain(model: Model, pixels: Tensor, image_depth: int, depth: int, length: int) -> list[list[int]]:
    """The cache-free decode: every step runs the encoder's output and the whole prefix."""
    c, rows = model.config, len(pixels)
    source = torch.tensor([PROMPT]).expand(rows, -1)
    with torch.inference_mode():
        if c.decomposed:
            encoded = model.encoder.encode(source, pixels, depths={"image": image_depth})
        else:
            encoded = model.encoder.encode(source, pixels, depths={"encoder": image_depth})
        tokens, ended = torch.full((rows, 1), c.bos), torch.zeros(rows, dtype=torch.bool)
        for _ in range(length):
            states = model.decoder.hidden_states(tokens, encoded, lambda done, _b, _a: done == depth)
            logits = model.decoder.project(states[-1][:, -1:])[:, 0]
            logits[:, [c.pad, c.bos]] = -math.inf
            chosen = logits.argmax(-1).masked_fill(ended, c.eos)
            ended |= chosen == c.eos
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            if bool(ended.all()):
                break
    return [row[: row.index(c.eos)] if c.eos in row else row for row in tokens[:, 1:].tolist()]


@pytest.fixture(params=[True, False], ids=["decomposed", "joint"])
def model(request: pytest.FixtureRequest) -> Model:
    # Position vectors in the decoder's input, and a frequent word as eos, so that captions differ in length.
    return tiny.make(seed=3, decomposed=request.param, disable_entangle=False, eos=24)


def test_captions_are_those_of_the_plain_way(model: Model) -> None:
    _, pixels = tiny.inputs(12)
    found = greedy_by_depth(model, PROMPT, pixels, CELLS, max_length=16)
    assert list(found) == CELLS
    for cell in CELLS:
        assert found[cell] == plain(model, pixels, *cell, 16)
    assert len({str(captions) for captions in found.values()}) > 3
    # In some batch more than a quarter of the rows, but not all, end before the others.
    ended = [sum(len(caption) < 16 for caption in captions) for captions in found.values()]
    assert any(3 < count < 12 for count in ended)


def test_logits_are_those_of_the_plain_way(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pixels = tiny.inputs(1)
    project, seen = model.decoder.project, list[Tensor]()

    def watched(hidden: Tensor) -> Tensor:
        seen.append(project(hidden))
        return seen[-1].clone()

    monkeypatch.setattr(model.decoder, "project", watched)
    for cell in CELLS:
        greedy(model, PROMPT, pixels, max_length=8, encoder_depth=cell[0], decoder_depth=cell[1])
        cached = seen.copy()
        seen.clear()
        plain(model, pixels, *cell, 8)
        assert len(cached) == len(seen)
        for a, b in zip(cached, seen):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
        seen.clear()


def test_all_layers_unless_told(model: Model) -> None:
    _, pixels = tiny.inputs(2)
    assert greedy(model, PROMPT, pixels, max_length=5) == plain(model, pixels, 3, 3, 5)


def test_depths_that_are_not_there(model: Model) -> None:
    _, pixels = tiny.inputs(1)
    for wrong in ((0, 1), (1, 0), (4, 1), (1, 4)):
        with pytest.raises(UsageError, match="1 to 3,3 layers"):
            greedy_by_depth(model, PROMPT, pixels, [wrong])
