"""An OFA configuration from what a checkpoint says and what its tensors show.

What the shapes show is checked against what the settings say; what only the settings can say
(`attn_scale_factor`, `disable_entangle`, …) is taken from them, else it is the published default,
with a note for the user.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.models.ofa.config import OFAConfig, from_json
from mue_edge.models.ofa.importing.contents import ALIASES, EMBEDDING

_NO_SETTINGS = ("trunk_width", "pixel_mean", "pixel_std", "image_relative_bias")
# Our names → fairseq's.
_FAIRSEQ = {field.name: field.name for field in fields(OFAConfig) if field.name not in _NO_SETTINGS} | {
    "encoder_dim": "encoder_embed_dim",
    "encoder_ffn": "encoder_ffn_embed_dim",
    "encoder_heads": "encoder_attention_heads",
    "decoder_dim": "decoder_embed_dim",
    "decoder_ffn": "decoder_ffn_embed_dim",
    "decoder_heads": "decoder_attention_heads",
    "trunk_blocks": "resnet_layers",
    "image_size": "patch_image_size",
    "orig_image_size": "orig_patch_image_size",
    "type_embedding": "add_type_embedding",
    "decomposed": "train_mue",
}
_HUGGING_FACE = _FAIRSEQ | {
    "encoder_dim": "d_model",
    "decoder_dim": "d_model",
    "encoder_ffn": "encoder_ffn_dim",
    "decoder_ffn": "decoder_ffn_dim",
    "max_source_positions": "max_position_embeddings",
    "max_target_positions": "max_position_embeddings",
    "scale_attn": "normformer",
    "scale_fc": "normformer",
    "bos": "bos_token_id",
    "pad": "pad_token_id",
    "eos": "eos_token_id",
}
# What the published code takes when a setting is absent, where no shape shows it.
_DEFAULTS = {
    "attn_scale_factor": 2.0,
    "disable_entangle": False,
    "entangle_position_embedding": False,
    "no_scale_embedding": True,
    "interpolate_position": False,
    "orig_image_size": 256,
    "decomposed": False,
}
_HUGGING_FACE_DEFAULTS = _DEFAULTS | {"orig_image_size": 224}
_SILENT = {"orig_image_size", "interpolate_position", "decomposed"}
# Settings under which the network would be another one.
_GELU = ("activation_fn", "activation_function")
_MUST_BE = ("encoder_normalize_before", "decoder_normalize_before", "use_image_feature")
_MUST_NOT_BE = (
    *("use_ofasys", "share_attn_bias", "use_gamma_feature", "adapter", "encoder_prompt", "decoder_prompt"),
    *("adaptive_input", "no_cross_attention", "cross_self_attention"),
    *("adaptive_softmax_cutoff", "encoder_layers_to_keep", "decoder_layers_to_keep"),
)
# Switch → the end of a key that is there when it is on.
_SWITCHES = {
    "scale_attn": "attn_ln.weight",
    "scale_fc": ".ffn_layernorm.weight",
    "scale_heads": ".c_attn",
    "scale_resids": ".w_resid",
    "type_embedding": "encoder.type_embedding.weight",
    "layernorm_embedding": "coder.layernorm_embedding.weight",
    "patch_layernorm_embedding": "encoder.patch_layernorm_embedding.weight",
}
_IMAGENET = {"pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225]}
_HUGE_LAYERS = 24
_LARGEST, _MOST_LAYERS = 1 << 20, 512


@dataclass(frozen=True)
class Derived:
    """The configuration, with the usual picture size unless the checkpoint has a `stated_size` (pixels);
    contradictions between settings and weights; and notes."""

    config: OFAConfig
    stated_size: int | None
    contradictions: list[str]
    notes: list[str]


def derive(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Derived:
    """What settings and weights say. `weights` have fairseq's names.

    Raises InputFileError for settings that no OFA here has.
    """
    hugging_face = "d_model" in settings
    names = _HUGGING_FACE if hugging_face else _FAIRSEQ
    defaults = _HUGGING_FACE_DEFAULTS if hugging_face else _DEFAULTS
    _check_supported(settings)
    stated = {ours: settings[theirs] for ours, theirs in names.items() if settings.get(theirs) is not None}
    if isinstance(stated.get("trunk_blocks"), tuple):
        stated["trunk_blocks"] = list(stated["trunk_blocks"])
    if hugging_face:
        stated["no_scale_embedding"] = not settings.get("scale_embedding", False)
        # Both ports add positions to the decoder's input only if the first is on and the second is not.
        entangled = stated.get("entangle_position_embedding", False)
        stated["disable_entangle"] = stated.get("disable_entangle", False) or not entangled
        stated["share_all_embeddings"] = True
    by_shapes = _from_shapes(weights)
    missing = {name: value for name, value in defaults.items() if name not in stated}
    values = {name: value for name, (value, _) in by_shapes.items()} | missing | stated
    notes = []
    # The ports' classes do not write what equals their defaults, which are these.
    if unsaid := [name for name in missing if not hugging_face and name not in _SILENT]:
        taken = ", ".join(f"{names[name]} {defaults[name]}" for name in unsaid)
        notes.append(f"the configuration does not say all that shapes the network; taken: {taken}")
    contradictions = [
        f"{names[name]} is {stated[name]!r} in the configuration, but {key} shows {value!r}"
        for name, (value, key) in by_shapes.items()
        if name in stated and stated[name] != value
    ]
    contradictions += _tie(weights, values, stated)
    imagenet = settings.get("imagenet_default_mean_and_std")
    if imagenet not in (None, True, False):
        raise InputFileError(f"imagenet_default_mean_and_std = {imagenet!r} is neither true nor false")
    if imagenet:
        values |= _IMAGENET
    for name, value in values.items():  # before a network of these sizes is built, be it without memory
        limit = _MOST_LAYERS if name.endswith("layers") or name == "trunk_blocks" else _LARGEST
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, int) and not 0 <= part <= limit for part in parts):
            raise InputFileError(f"{names.get(name, name)} = {value} is out of range (0 to {limit})")
    config = from_json(values)
    if hugging_face and config.encoder_layers == _HUGE_LAYERS and "interpolate_position" not in stated:
        notes.append(
            "OFA-huge was trained with interpolated positions, which the Hugging Face port leaves out; for "
            'fairseq\'s captions add --config FILE with {"interpolate_position": true, '
            '"orig_patch_image_size": 256}'
        )
    return Derived(config, config.image_size if "image_size" in stated else None, contradictions, notes)


def _check_supported(settings: Mapping[str, Any]) -> None:
    wrong = [name for name in _GELU if settings.get(name) not in (None, "gelu")]
    wrong += [name for name in _MUST_BE if settings.get(name) not in (None, True)]
    wrong += [name for name in _MUST_NOT_BE if settings.get(name)]
    width = settings.get("decoder_embed_dim")
    for name in ("decoder_input_dim", "decoder_output_dim"):
        if None not in (settings.get(name), width) and settings[name] != width:
            wrong.append(name)
    if wrong:
        variant = ", ".join(f"{name} = {settings[name]!r}" for name in wrong)
        raise InputFileError(f"the configuration has {variant}; such a variant of OFA is not supported")


def _from_shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[Any, str]]:
    """What tensors show: our name → (value, which tensor shows it)."""
    by_shapes: dict[str, tuple[Any, str]] = {}

    def size(name: str, key: str, axis: int = 0, of: Any = int) -> None:
        if key in weights and weights[key].dim() > axis:
            by_shapes[name] = (of(weights[key].shape[axis]), key)

    size("vocab_size", EMBEDDING)
    size("trunk_width", "encoder.embed_images.conv1.weight")
    size("image_bucket_size", "encoder.image_rel_pos_table_list.0.weight", of=_image_buckets)
    size("max_source_positions", "encoder.embed_positions.weight", of=lambda rows: rows - 2)
    size("max_target_positions", "decoder.embed_positions.weight", of=lambda rows: rows - 2)
    size("token_bucket_size", "encoder.token_rel_pos_table_list.0.weight", of=lambda rows: (rows + 1) // 2)
    for stack in ("encoder", "decoder"):
        size(f"{stack}_dim", f"{stack}.embed_positions.weight", 1)
        size(f"{stack}_ffn", f"{stack}.layers.0.fc1.weight")
        size(f"{stack}_heads", f"{stack}.token_rel_pos_table_list.0.weight", 1)
        if last := _last(weights, rf"{stack}\.layers\.(\d{{1,6}})\."):
            by_shapes[f"{stack}_layers"] = last
    stages = [_last(weights, rf"encoder\.embed_images\.layer{stage}\.(\d{{1,6}})\.") for stage in (1, 2, 3)]
    if all(stages):
        by_shapes["trunk_blocks"] = ([stage[0] for stage in stages if stage], "encoder.embed_images")
    for name, ending in _SWITCHES.items():
        key = next((key for key in weights if key.endswith(ending)), None)
        by_shapes[name] = (key is not None, key or f"the absence of all keys in {ending}")
    return by_shapes


def _last(weights: Mapping[str, Tensor], pattern: str) -> tuple[int, str] | None:
    """1 + the largest number that the pattern finds in a key, and that key."""
    numbered = [(int(match[1]) + 1, key) for key in weights if (match := re.match(pattern, key))]
    return max(numbered, default=None)


def _image_buckets(rows: int) -> int:
    """B of a table of (2B-1)^2 + 3 rows."""
    return (math.isqrt(max(rows - 3, 0)) + 1) // 2


def _tie(weights: Mapping[str, Tensor], values: dict[str, Any], stated: Mapping[str, Any]) -> list[str]:
    """Decide which of the three embeddings are one; a difference where they should be is a contradiction."""
    encoder, decoder, out = (weights.get(key) for key in (EMBEDDING, *ALIASES))

    def differ(a: Tensor | None, b: Tensor | None) -> bool:
        if a is None or b is None:
            return False
        return a.shape != b.shape or not torch.equal(a.float(), b.float())

    contradictions = []
    shared = values.setdefault("share_all_embeddings", not differ(encoder, decoder) and not differ(encoder, out))
    if shared and differ(encoder, decoder):
        contradictions.append(
            "share_all_embeddings is True in the configuration, but decoder.embed_tokens.weight differs "
            "from encoder.embed_tokens.weight"
        )
    untied = differ(encoder if shared else decoder, out)
    if shared:
        values["share_decoder_input_output_embed"] = True
    if values.setdefault("share_decoder_input_output_embed", not untied) and untied:
        name = "share_all_embeddings" if shared else "share_decoder_input_output_embed"
        source = "is True in the configuration" if name in stated else "follows from the input tables"
        contradictions.append(f"{name} {source}, but decoder.output_projection.weight differs from the input embedding")
    return contradictions
