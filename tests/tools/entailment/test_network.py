"""Where an entailment model's training begins, and what its loss is."""

from __future__ import annotations

import pytest
import torch

from mue_edge import models
from mue_edge.apps.entailment import model_folder
from mue_edge.errors import UsageError
from tools.entailment import states
from tools.entailment.network import cut


def test_a_cut_model_has_the_first_decoder_layers_and_learns_there_only() -> None:
    whole, one = models.load(model_folder()).state_dict(), cut(model_folder(), 1)
    assert one.config.decoder_layers == 1
    assert all(torch.equal(value, whole[name]) for name, value in one.state_dict().items())
    learning = {name.partition(".")[0] for name, p in one.named_parameters() if p.requires_grad}
    assert "decoder" in learning and not any(p.requires_grad for p in one.encoder.layers.parameters())


def test_a_cut_has_no_more_layers_than_there_are() -> None:
    assert cut(model_folder(), None).config.decoder_layers == 3
    with pytest.raises(UsageError, match="--layers 4: the model has 3 decoder layers"):
        cut(model_folder(), 4)


@pytest.mark.parametrize(
    ("by", "weights"), [("mean", [1 / 3] * 3), ("depth", [1 / 6, 2 / 6, 3 / 6]), ("last", [0, 0, 1])]
)
def test_layers_weigh_as_the_papers_say(by: states.OverLayers, weights: list[float]) -> None:
    found = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    labels, even = torch.tensor([0, 1, 2, 1]), torch.ones(3)
    each = [torch.nn.functional.cross_entropy(layer, labels) for layer in found]
    total, last = states.loss(found, labels, even, by)
    assert float(total) == pytest.approx(sum(w * float(e) for w, e in zip(weights, each)), rel=1e-5)
    assert float(last) == pytest.approx(float(each[-1]))
