"""The golden configuration and weights as our own network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.model import Model
from mue_edge.models.weights import stored_weights
from tests.golden.weights import read, weights


@cache
def config() -> OFAConfig:
    c: dict[str, Any] = read("config.json")
    same = (
        "vocab_size", "encoder_layers", "decoder_layers", "token_bucket_size", "image_bucket_size",
        "max_source_positions", "max_target_positions", "attn_scale_factor", "interpolate_position",
        "scale_attn", "scale_fc", "scale_heads", "scale_resids", "layernorm_embedding",
        "patch_layernorm_embedding", "disable_entangle", "entangle_position_embedding",
        "no_scale_embedding", "share_all_embeddings", "bos", "pad", "eos", "unk",
    )  # fmt: skip
    values = {key: c[key] for key in same}
    for stack in ("encoder", "decoder"):
        values[f"{stack}_dim"] = c[f"{stack}_embed_dim"]
        values[f"{stack}_ffn"] = c[f"{stack}_ffn_embed_dim"]
        values[f"{stack}_heads"] = c[f"{stack}_attention_heads"]
    return OFAConfig(
        **values,
        trunk_blocks=tuple(c["resnet_layers"]),
        image_size=c["patch_image_size"],
        orig_image_size=c["orig_patch_image_size"],
        type_embedding=c["add_type_embedding"],
    )


@cache
def model(*, image_relative_bias: bool = False) -> Model:
    """Eval mode; the switch matters in the decomposed encoder only."""
    made = Model(replace(config(), image_relative_bias=image_relative_bias))
    made.load_state_dict({key: weights()[key] for key in stored_weights(made)}, strict=True)
    return made.eval()
