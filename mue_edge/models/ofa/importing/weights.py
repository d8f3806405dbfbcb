"""From a checkpoint to the weights of a model folder: renamed, checked key by key, float32.

Nothing is filled in: what is missing, surplus or of another shape is named, and nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mue_edge.errors import InputFileError
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.importing.config import derive
from mue_edge.models.ofa.importing.contents import ALIASES, Stored
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.trunk import Bottleneck
from mue_edge.models.weights import differences, stored_weights

# Hugging Face's port renamed the parts of a layer, each to one name of fairseq's.
_RENAMED = (
    (re.compile(r"^encoder(\.layers\.\d+\.)self_attn_mid_layer_norm\."), r"encoder\1attn_ln."),
    (re.compile(r"^decoder(\.layers\.\d+\.)self_attn_mid_layer_norm\."), r"decoder\1self_attn_ln."),
    (re.compile(r"^decoder(\.layers\.\d+\.)cross_attn_mid_layer_norm\."), r"decoder\1cross_attn_ln."),
    (re.compile(r"^decoder(\.layers\.\d+\.)cross_attn_layer_norm\."), r"decoder\1encoder_attn_layer_norm."),
    (re.compile(r"^decoder(\.layers\.\d+\.)cross_attn\."), r"decoder\1encoder_attn."),
    (re.compile(r"^((?:en|de)coder\.layers\.\d+\.)ffn_layer_norm\."), r"\1ffn_layernorm."),
)
# Not needed for words out of pictures: counters, tables that follow from the configuration, and the
# decoder's means of writing pictures as codes.
_NOT_NEEDED = re.compile(
    r"(en|de)coder\.version|(en|de)coder\.(token|image)_rp_bucket|.*\.num_batches_tracked"
    r"|decoder\.(code_layernorm_embedding|image_pos_ln)\.(weight|bias)|decoder\.embed_image_positions\.weight"
    r"|decoder\.image_rel_pos_table_list\.\d+\.weight|decoder\.image_position_idx"
)
_NAMED_AT_MOST = 40


PATCH = 16  # pixels a side
USUAL = 480
# Sizes of pictures: OFA's pretraining scripts (base and large 384), the Hugging Face fork's page (tiny 256),
# the scripts of captions and SNLI-VE and of OFA-huge (480). A model works at other sizes too, but worse.
# What a name holds, after no letter → side in pixels, and what was trained so. The task goes before the size
# of the network.
_PUBLISHED = (
    (r"caption|coco", 480, "OFA's trainings for captions"),
    (r"snli|entail|visual[-_ ]?entailment", 480, "OFA's trainings for SNLI-VE"),
    (r"ofa[-_ ]?tiny", 256, "OFA-tiny"),
    (r"ofa[-_ ]?(?:base|large)", 384, "OFA-base's and OFA-large's pretraining"),
    (r"ofa[-_ ]?huge", 480, "OFA-huge"),
)


@dataclass(frozen=True)
class Converted:
    """A model folder's content; `codes` and `bins`: ids after the words, if the checkpoint says so."""

    config: OFAConfig
    weights: dict[str, Tensor]
    codes: int | None = None
    bins: int | None = None
    notes: tuple[str, ...] = ()


def convert(stored: Stored, *, decomposed: bool | None = None, image_size: int | None = None) -> Converted:
    """Configuration and weights of a checkpoint; `decomposed` and `image_size` win over what it says.

    Raises InputFileError that names every key which is missing, surplus or misshaped, and every
    setting that its tensors contradict.
    """
    weights = {k: value for k, value in rename(stored.weights).items() if not _NOT_NEEDED.fullmatch(k)}
    heads = [key for key in weights if key.startswith("classification_heads.")]
    for key in heads:
        del weights[key]
    derived = derive(weights, stored.settings)
    problems, notes = derived.contradictions, derived.notes
    path = stored.source.absolute()
    # What the checkpoint is called, the most telling first: a file may lie in a folder of revisions.
    names = [path.name, *(parent.name for parent in path.parents[:3])]
    names.append(str(stored.settings.get("_name_or_path") or ""))
    size = picture_size(image_size, derived.stated_size, names, derived.config.image_bucket_size)
    config = replace(derived.config, image_size=size.side)
    if not size.sure:
        notes.append(
            f"the checkpoint does not say how large its pictures were; taken: {size.side} pixels "
            f"({size.why}); another size: --image-size N"
        )
    if heads:
        notes.append(f"{len(heads)} tensors of classification heads are not imported")
    if decomposed is not None:
        config = replace(config, decomposed=decomposed)
    with torch.device("meta"):
        expected = stored_weights(Model(config))
    wrong = differences({k: v for k, v in weights.items() if k in expected or k not in ALIASES}, expected)
    if problems and len(wrong) > _NAMED_AT_MOST:
        # A wrong configuration explains them all.
        rest = len(wrong) - _NAMED_AT_MOST
        wrong = [*wrong[:_NAMED_AT_MOST], f"and {rest} more tensors that do not fit"]
    if problems or wrong:
        raise InputFileError(f"{stored.source} does not fit its configuration: {'; '.join([*problems, *wrong])}")
    float32 = {key: weights[key].detach().to(torch.float32, copy=True).contiguous() for key in expected}
    if broken := [key for key, value in float32.items() if not bool(torch.isfinite(value).all())]:
        raise InputFileError(f"{stored.source} holds infinite or undefined numbers in {', '.join(broken)}")
    codes = _count(stored.settings, "code_dict_size", "n_codes")
    bins = _count(stored.settings, "num_bins", "n_bins")
    return Converted(config, float32, codes, bins, (*stored.notes, *notes))


def rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under fairseq's names. Raises InputFileError where two keys get one name."""
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        new = key
        for pattern, name in _RENAMED:
            new = pattern.sub(name, new)
        if new in renamed:
            raise InputFileError(f"the checkpoint holds {new} twice, under fairseq's name and Hugging Face's")
        renamed[new] = value
    return renamed


def random_weights(config: OFAConfig, seed: int) -> dict[str, Tensor]:
    """Untrained weights as a fairseq model starts with, the same for the same seed.

    The trunk's shortcuts dominate, as they do in trained trunks: without training, full-strength
    branches would double the variance at every block and leave float16's range.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(config)
        for module in model.modules():
            if isinstance(module, Bottleneck):
                nn.init.constant_(module.bn3.weight, 0.2)
    return stored_weights(model)


def _count(settings: Mapping[str, Any], *names: str) -> int | None:
    count = next((settings[name] for name in names if type(settings.get(name)) is int), None)
    return count if count is not None and 0 <= count < 1 << 20 else None


@dataclass(frozen=True)
class PictureSize:
    """Side in pixels and why; `sure`: the user or the checkpoint says so."""

    side: int
    why: str
    sure: bool


def picture_size(option: int | None, stated: int | None, names: Iterable[str], buckets: int) -> PictureSize:
    """The size of pictures.

    option: the user's; stated: the checkpoint's; names: of files and folders that it came from, the most
    telling first; buckets: patches a side that it has positions for.
    Raises InputFileError for a size that it has no positions for.
    """
    if option is not None:
        size = PictureSize(option, "--image-size", True)
    elif stated is not None:
        size = PictureSize(stated, "the checkpoint says so", True)
    else:
        size = _by_name(names, buckets)
    side = -(-size.side // PATCH)
    if not 0 < side <= buckets:
        raise InputFileError(
            f"pictures of {size.side} pixels ({size.why}) have {side} patches a side, but the checkpoint "
            f"has positions for 1 to {buckets}; choose another --image-size"
        )
    return size


def _by_name(names: Iterable[str], buckets: int) -> PictureSize:
    most = buckets * PATCH
    for name in names:
        for pattern, side, what in _PUBLISHED:
            if side <= most and re.search(rf"(?:^|[^a-z])(?:{pattern})", name.lower()):
                return PictureSize(side, f"as {what}, by the name {name!r}", False)
    if most < USUAL:
        return PictureSize(most, "the most that it has positions for", False)
    return PictureSize(USUAL, "as most of OFA's trainings", False)
