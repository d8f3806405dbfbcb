"""What the golden vectors do not reach: other sizes, switches, picture shapes, padding, training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mue_edge.errors import InputFileError, UsageError
from mue_edge.models.ofa.config import SIZES
from mue_edge.models.ofa.decoding.incremental import DecoderCache
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network import positions as pos
from mue_edge.models.ofa.network.exits import MUE, DecoderExit
from mue_edge.models.ofa.network.layers import EncoderLayer
from mue_edge.models.ofa.training.captions import layerwise_loss
from tests.models.ofa.tiny import TINY, UNEQUAL, inputs, make, targets

SWITCHES: dict[str, dict[str, Any]] = {
    "as released": {},
    "scale_resids": {"scale_resids": True},
    "no scale_attn": {"scale_attn": False},
    "no scale_fc": {"scale_fc": False},
    "no scale_heads": {"scale_heads": False},
    "no type embedding": {"type_embedding": False},
    "no layernorm_embedding": {"layernorm_embedding": False},
    "no patch_layernorm_embedding": {"patch_layernorm_embedding": False},
    "entangled positions": {"entangle_position_embedding": True},
    "decoder positions added": {"disable_entangle": False},
    "scaled embedding": {"no_scale_embedding": False},
}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def stepwise(model: Model, tokens: Tensor, encoded: Any) -> Tensor:
    """Logits of an incremental run over `tokens`, one row a sample."""
    cache = DecoderCache(model.decoder, encoded, tokens.shape[1], "propagate")
    steps = [
        model.decoder.project(cache.step(tokens[:, t], DecoderExit(None, MUE, t, 16))) for t in range(tokens.shape[1])
    ]
    return torch.cat(steps, 1)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("config", [TINY, UNEQUAL], ids=["equal widths", "unequal widths"])
@torch.inference_mode()
def test_incremental_equals_full_prefix(config: Any, switch: str, decomposed: bool) -> None:
    model = make(config, **SWITCHES[switch])
    tokens, pixels = inputs(height=40, width=70)
    encoded = model.encode(tokens, pixels, decomposed=decomposed)
    logits = model.decode(targets(), encoded)
    assert logits.shape == (2, 6, 40)
    close(stepwise(model, targets(), encoded), logits)


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name != "as released"])
@torch.inference_mode()
def test_every_switch_has_an_effect(switch: str) -> None:
    released = make().state_dict()
    switched = make(**SWITCHES[switch])
    # Same weights wherever both have them, so that only the switch differs.
    switched.load_state_dict({key: released.get(key, value) for key, value in switched.state_dict().items()})
    base = make()
    found, expected = (m.decode(targets(), m.encode(*inputs(), decomposed=False)) for m in (switched, base))
    assert (found - expected).abs().max() > 1e-2


def attention_by_hand(layer: EncoderLayer, x: Tensor, bias: Tensor, heads: int, factor: float) -> Tensor:
    """One row, head by head, from the formulas of the fact sheet."""
    attention, width = layer.self_attn, x.shape[1] // heads
    q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
    out = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        weights = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(width * factor) + bias[h], 1)
        assert attention.c_attn is not None
        out.append(weights @ v[:, part] * attention.c_attn[h])
    found: Tensor = attention.out_proj(torch.cat(out, 1))
    return found


@torch.inference_mode()
def test_layer_with_residual_scale_by_hand() -> None:
    layer = make(scale_resids=True).encoder.layers[1]
    assert isinstance(layer, EncoderLayer)
    assert layer.w_resid is not None and layer.attn_ln is not None and layer.ffn_layernorm is not None
    x, bias = torch.randn(7, 16), torch.randn(2, 7, 7)
    a = x + layer.attn_ln(attention_by_hand(layer, layer.self_attn_layer_norm(x), bias, 2, 2.0))
    inner = layer.ffn_layernorm(F.gelu(layer.fc1(layer.final_layer_norm(a))))
    close(layer(x[None], bias), (layer.w_resid * a + layer.fc2(inner))[None])


@pytest.mark.parametrize("decomposed", [False, True])
@torch.inference_mode()
def test_padding_changes_nothing(decomposed: bool) -> None:
    model = make(UNEQUAL)
    tokens, pixels = inputs()
    short = tokens[:1, :3]
    padded = torch.cat([F.pad(short, (0, 2), value=1), tokens[1:]])
    together = model.encode(padded, pixels, decomposed=decomposed)
    alone = model.encode(short, pixels[:1], decomposed=decomposed)
    live = ~together.padding_mask[0]
    close(together.hidden[0, live], alone.hidden[0])
    close(model.decode(targets(), together)[0], model.decode(targets(1), alone)[0])
    close(stepwise(model, targets(), together)[0], model.decode(targets(1), alone)[0])
    long_target = F.pad(targets(1), (0, 3), value=1)
    close(model.decode(long_target, alone)[:, :6], model.decode(targets(1), alone))


@pytest.mark.parametrize("decomposed", [False, True])
@torch.inference_mode()
def test_a_missing_image_is_ignored(decomposed: bool) -> None:
    model = make()
    tokens, pixels = inputs()
    masks = torch.tensor([True, False])
    logits = [
        model.decode(targets(), model.encode(tokens, images, masks, decomposed=decomposed))
        for images in (pixels, torch.cat([pixels[:1], -pixels[1:]]))
    ]
    assert logits[0].isfinite().all()
    close(logits[0], logits[1])
    present = model.decode(targets(), model.encode(tokens, pixels, decomposed=decomposed))
    close(logits[0][0], present[0])
    assert (logits[0][1] - present[1]).abs().max() > 1e-2


@torch.inference_mode()
def test_decomposed_modalities_do_not_see_each_other() -> None:
    model = make()
    tokens, pixels = inputs()
    one = model.encode(tokens, pixels, decomposed=True)
    other = model.encode(tokens, -pixels, decomposed=True)
    assert torch.equal(one.hidden[:, 9:], other.hidden[:, 9:])
    assert not torch.equal(one.hidden[:, :9], other.hidden[:, :9])
    joint = model.encode(tokens, pixels, decomposed=False)
    assert (one.hidden - joint.hidden).abs().max() > 1e-2


def test_token_buckets_by_formula() -> None:
    size = 16
    found = pos.token_buckets(1024, size)
    for i, j in [(0, 0), (3, 8), (8, 0), (0, 9), (40, 0), (0, 500), (1023, 0), (0, 1023)]:
        distance, mid = i - j, size // 2
        if abs(distance) <= mid:
            expected = distance
        else:
            scaled = math.log(abs(distance) / mid) / math.log(1023 / mid) * (mid - 1)
            expected = (1 if distance > 0 else -1) * (math.ceil(round(scaled, 5)) + mid)
        assert found[i, j].item() == expected + size - 1
    assert found.min() == 0 and found.max() == 2 * size - 2


def test_image_buckets_of_a_grid_that_is_not_square() -> None:
    found = pos.image_buckets(2, 3, 6)
    ids = pos.image_position_ids(2, 3, 6)
    assert ids.tolist() == [1, 2, 3, 7, 8, 9]
    for a in range(6):
        for b in range(6):
            down, right = a // 3 - b // 3, a % 3 - b % 3
            assert found[a, b].item() == (down + 5) * 11 + right + 5
    assert int(found.max()) < pos.image_table_rows(6) == 124


@torch.inference_mode()
def test_positions_are_interpolated_above_the_trained_grid() -> None:
    table = make().encoder.embed_image_positions
    small = pos.image_position_vectors(table, 2, 4, 6, 3)
    assert torch.equal(small, pos.image_position_vectors(table, 2, 4, 6, None))
    grid = pos.image_position_vectors(table, 3, 3, 6, None).view(3, 3, -1)
    found = pos.image_position_vectors(table, 3, 5, 6, 3).view(3, 5, -1)
    for column in range(5):
        # Bilinear with align_corners=False; rows keep their number, so only columns mix.
        at = min(max((column + 0.5) * 3 / 5 - 0.5, 0.0), 2.0)
        left = min(int(at), 1)
        close(found[:, column], grid[:, left] * (1 - at + left) + grid[:, left + 1] * (at - left))


@torch.inference_mode()
def test_interpolation_reaches_encoder_and_decoder() -> None:
    tokens, pixels = inputs(height=48, width=80)
    plain, interpolated = make(), make(interpolate_position=True)
    found, expected = (m.encode(tokens, pixels, decomposed=False) for m in (interpolated, plain))
    assert found.positions.shape == expected.positions.shape == (2, 15 + 5, 16)
    assert (found.positions[:, :15] - expected.positions[:, :15]).abs().max() > 1e-2
    assert torch.equal(found.positions[:, 15:], expected.positions[:, 15:])


def test_what_has_no_position_is_refused() -> None:
    model = make()
    tokens, pixels = inputs(height=32, width=112)
    with pytest.raises(UsageError, match="2x7 patches"):
        model.encode(tokens, pixels, decomposed=True)
    with pytest.raises(UsageError, match="target text of 35 tokens"):
        model.decoder.position_vectors(35)
    with pytest.raises(InputFileError, match="equal widths"):
        Model(replace(TINY, decoder_dim=24))


def test_training_runs_chosen_depths_without_scores() -> None:
    model = make(decomposed=True).train()
    tokens, pixels = inputs()
    encoded = model.encoder.encode(tokens, pixels, depths={"image": 1, "text": 2})
    assert encoded.scores == {} and encoded.exits == {"image": (1, 1), "text": (2, 2)}
    assert torch.equal(encoded.layers[3], encoded.layers[2])
    states = model.decoder.hidden_states(targets(), encoded)
    assert len(states) == 4
    by_layer = layerwise_loss(model.decoder, states[1:], targets().roll(-1, 1))
    by_layer.sum().backward()  # type: ignore[no-untyped-call]
    without = {name for name, p in model.named_parameters() if p.grad is None}
    deeper = ("encoder.layers.2.", "encoder.image_rel_pos", "encoder.token_rel_pos_table_list.2.")
    assert {name for name in without if not name.startswith(deeper)} == set()
    assert "encoder.layers.2.fc1.weight" in without


@torch.inference_mode()
def test_chosen_depths_equal_the_layers_of_a_full_run() -> None:
    model = make()
    full = model.encode(*inputs(), decomposed=True)
    some = model.encoder.encode(*inputs(), decomposed=True, depths={"image": 2, "text": 0})
    assert torch.equal(some.layers[3][:, :9], full.layers[2][:, :9])
    assert torch.equal(some.layers[3][:, 9:], full.layers[0][:, 9:])
    close(some.hidden, model.encoder.layer_norm(some.layers[3]))
    with pytest.raises(UsageError, match="depth 4"):
        model.encoder.encode(*inputs(), decomposed=True, depths={"image": 4})


@pytest.mark.parametrize(
    ("size", "millions"),
    [("ofa-tiny", 33.49), ("ofa-medium", 92.89), ("ofa-base", 182.24), ("ofa-large", 472.98), ("ofa-huge", 929.49)],
)
def test_published_sizes(size: str, millions: float) -> None:
    config = SIZES[size]
    with torch.device("meta"):
        model = Model(config)
    ours = sum(parameter.numel() for parameter in model.parameters())
    # The published count includes the decoder's image-code parts, which this network leaves out.
    tables = config.decoder_layers * pos.image_table_rows(config.image_bucket_size) * config.decoder_heads
    left_out = (config.image_bucket_size**2 + 1 + 4) * config.decoder_dim + tables
    assert round((ours + left_out) / 1e6, 2) == millions


def test_fresh_network_is_untrained_but_sound() -> None:
    torch.manual_seed(0)
    model = Model(replace(UNEQUAL, scale_resids=True)).eval()
    logits = model.decode(targets(), model.encode(*inputs(), decomposed=True))
    assert logits.isfinite().all() and 0.01 < float(logits.detach().std()) < 10
