"""Checkpoints as other programs write them, made from a small model of ours."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.model import Model

FAIRSEQ_NAMES = {
    "encoder_dim": "encoder_embed_dim", "encoder_ffn": "encoder_ffn_embed_dim",
    "encoder_heads": "encoder_attention_heads", "decoder_dim": "decoder_embed_dim",
    "decoder_ffn": "decoder_ffn_embed_dim", "decoder_heads": "decoder_attention_heads",
    "image_size": "patch_image_size", "orig_image_size": "orig_patch_image_size",
    "type_embedding": "add_type_embedding", "decomposed": "train_mue",
}  # fmt: skip
NOT_SAID = {"vocab_size", "trunk_blocks", "trunk_width", "image_relative_bias", "bos", "pad", "eos", "unk"}


def settings(config: OFAConfig) -> dict[str, Any]:
    """The model's part of a fairseq configuration, with some of what has no bearing."""
    values = {k: v for k, v in config.to_json().items() if k not in NOT_SAID | {"family"}}
    named = {FAIRSEQ_NAMES.get(name, name): value for name, value in values.items()}
    return named | {
        "_name": "ofa_base",
        "arch": "ofa_base",
        "activation_fn": "gelu",
        "encoder_normalize_before": True,
        "decoder_normalize_before": True,
        "dropout": 0.1,
        "encoder_layers_to_keep": None,
        "adapter": False,
        "freeze_resnet": False,
        "code_layernorm_embedding": True,
    }


def state(model: Model, *, tied: bool = True, buffers: bool = True) -> dict[str, Tensor]:
    """The model's weights with all that fairseq keeps beside them."""
    c, out = model.config, {key: value.clone() for key, value in model.state_dict().items()}
    dim = c.decoder_dim
    for stack in ("encoder", "decoder"):
        out[f"{stack}.version"] = torch.tensor([3.0])
    for name in ("code_layernorm_embedding", "image_pos_ln"):
        out[f"decoder.{name}.weight"], out[f"decoder.{name}.bias"] = torch.ones(dim), torch.zeros(dim)
    out["decoder.embed_image_positions.weight"] = torch.zeros(c.image_bucket_size**2 + 1, dim)
    for i in range(c.decoder_layers):
        rows = (2 * c.image_bucket_size - 1) ** 2 + 3
        out[f"decoder.image_rel_pos_table_list.{i}.weight"] = torch.zeros(rows, c.decoder_heads)
    if tied:
        shared = c.share_all_embeddings
        table = out["encoder.embed_tokens.weight" if shared else "decoder.embed_tokens.weight"]
        out.setdefault("decoder.embed_tokens.weight", table.clone())
        out.setdefault("decoder.output_projection.weight", table.clone())
    if buffers:
        for stack in ("encoder", "decoder"):
            out[f"{stack}.token_rp_bucket"] = torch.zeros(1024, 1024, dtype=torch.long)
            out[f"{stack}.image_rp_bucket"] = torch.zeros(9, 9, dtype=torch.long)
        out["decoder.image_position_idx"] = torch.zeros(1026, dtype=torch.long)
    return out


def fairseq(
    path: Path,
    model: Model,
    *,
    where: str = "cfg",
    as_namespace: bool = True,
    half: bool = False,
    ema: bool = False,
    weights: dict[str, Tensor] | None = None,
    task: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A fairseq `.pt`: configuration in `where` ("cfg" or "args"), `changes` to its model's part and those of
    `task` to the task's."""
    tensors = OrderedDict(state(model) if weights is None else weights)
    if half:
        tensors = OrderedDict((k, v.half() if v.is_floating_point() else v) for k, v in tensors.items())
    table = settings(model.config) | changes
    size = {"patch_image_size": table.pop("patch_image_size", None)}
    size |= {"_name": "caption", "num_bins": 1000, "code_dict_size": 8192, "max_src_length": 80}
    task = size | (task or {})
    args: Any = table | task | {"task": task["_name"]}
    parts: Any = table
    if as_namespace:
        args, parts = Namespace(**args), Namespace(**parts)
    cfg = {"_name": None, "common": {"fp16": False}, "model": parts, "task": task}
    content = {
        "args": args if where == "args" else None,
        "cfg": cfg if where == "cfg" else None,
        "model": tensors,
        "criterion": None,
        "optimizer_history": [{"criterion_name": "none", "num_updates": 0}],
        "task_state": {},
        "extra_state": {"metrics": [], "train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": {0: {"step": 1, "exp_avg": torch.zeros(3)}}},
    }
    if ema:
        content["extra_state"]["ema"] = {k: v + 1 for k, v in tensors.items()}  # type: ignore[index]
    torch.save(content, path)
    return path


def hugging_face(folder: Path, model: Model, *, pickled: bool = False, **changes: Any) -> Path:
    """A folder of the Hugging Face port: its names for keys and settings."""
    folder.mkdir()
    weights = {rename(key): v for key, v in state(model).items() if not key.endswith("version")}
    if pickled:
        torch.save(OrderedDict(weights), folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    c = model.config
    config = {
        "model_type": "ofa", "vocab_size": c.vocab_size, "d_model": c.encoder_dim,
        "encoder_layers": c.encoder_layers, "encoder_ffn_dim": c.encoder_ffn,
        "encoder_attention_heads": c.encoder_heads, "decoder_layers": c.decoder_layers,
        "decoder_ffn_dim": c.decoder_ffn, "decoder_attention_heads": c.decoder_heads, "normformer": True,
        "max_position_embeddings": c.max_source_positions, "scale_embedding": False,
        "resnet_type": "resnet101",
        "token_bucket_size": c.token_bucket_size, "image_bucket_size": c.image_bucket_size,
        "activation_function": "gelu", "attn_scale_factor": 2.0, "bos_token_id": 0, "pad_token_id": 1,
        "eos_token_id": 2, "share_decoder_input_output_embed": True, "patch_image_size": c.image_size,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def rename(key: str) -> str:
    """Hugging Face's name of a fairseq key, as the port's modules are called."""
    side, _, rest = key.partition(".")
    match = re.fullmatch(r"(layers\.\d+\.)(\w+)(.*)", rest)
    if match is None:
        return key
    port = {"ffn_layernorm": "ffn_layer_norm"}
    if side == "encoder":
        port |= {"attn_ln": "self_attn_mid_layer_norm"}
    else:
        port |= {
            "self_attn_ln": "self_attn_mid_layer_norm",
            "cross_attn_ln": "cross_attn_mid_layer_norm",
            "encoder_attn_layer_norm": "cross_attn_layer_norm",
            "encoder_attn": "cross_attn",
        }
    return f"{side}.{match[1]}{port.get(match[2], match[2])}{match[3]}"
