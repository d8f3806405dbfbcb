"""What shapes an OFA network: `OFAConfig`, read from and written to `config.json`.

Standard library only, so that a model folder can be inspected without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mue_edge import schema
from mue_edge.bundle.manifest import Channels, Preprocess
from mue_edge.errors import InputFileError

NAME = "ofa"  # of the family


@dataclass(frozen=True)
class OFAConfig:
    """Sizes and switches of one OFA network; the defaults are those of OFA-base's released scripts."""

    vocab_size: int = 59457
    encoder_layers: int = 6
    encoder_dim: int = 768
    encoder_ffn: int = 3072
    encoder_heads: int = 12
    decoder_layers: int = 6
    decoder_dim: int = 768
    decoder_ffn: int = 3072
    decoder_heads: int = 12
    # ResNet: blocks of the three stages kept; width is the first stage's (64 in every published size).
    trunk_blocks: tuple[int, int, int] = (3, 4, 23)
    trunk_width: int = 64
    image_size: int = 480
    orig_image_size: int = 480
    # Of red, green and blue in 0 … 1; what others call `imagenet_default_mean_and_std` is written in numbers.
    pixel_mean: Channels = (0.5, 0.5, 0.5)
    pixel_std: Channels = (0.5, 0.5, 0.5)
    interpolate_position: bool = False
    token_bucket_size: int = 256
    image_bucket_size: int = 42
    max_source_positions: int = 1024
    max_target_positions: int = 1024
    attn_scale_factor: float = 2.0
    scale_attn: bool = True
    scale_fc: bool = True
    scale_heads: bool = True
    scale_resids: bool = False
    type_embedding: bool = True
    layernorm_embedding: bool = True
    patch_layernorm_embedding: bool = True
    entangle_position_embedding: bool = False
    # `disable_entangle` of fairseq: false adds the position vectors to the decoder's input.
    disable_entangle: bool = True
    no_scale_embedding: bool = True
    share_all_embeddings: bool = True
    share_decoder_input_output_embed: bool = True
    # MuE: the encoder that the weights were trained for, and whether its image pass uses the
    # image relative bias (the authors' code computes it and drops it).
    decomposed: bool = False
    image_relative_bias: bool = False
    bos: int = 0
    pad: int = 1
    eos: int = 2
    unk: int = 3

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if (type(value) is int and value < 0) or (key == "trunk_blocks" and min(value) <= 0):
                raise InputFileError(f"{key} = {value} is too small")
        for name in ("encoder", "decoder"):
            dim, heads = getattr(self, f"{name}_dim"), getattr(self, f"{name}_heads")
            if not heads or dim % heads:
                raise InputFileError(f"{name}_dim {dim} is not a multiple of {name}_heads {heads}")
        _ = self.preprocess  # which refuses what is no scale

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the network's input."""
        return Preprocess(self.image_size, self.image_size, self.pixel_mean, self.pixel_std)

    @property
    def trunk_channels(self) -> int:
        """Channels of the trunk's output."""
        return 16 * self.trunk_width

    def to_json(self) -> dict[str, Any]:
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        return {"family": NAME} | values


def from_json(data: Mapping[str, Any]) -> OFAConfig:
    """The configuration of a `config.json`; unknown and ill-typed keys are errors."""
    return schema.decode(OFAConfig, {k: v for k, v in data.items() if k != "family"}, "config.json")


def _size(layers: tuple[int, int], dim: int, heads: int, trunk: tuple[int, int, int]) -> OFAConfig:
    both = {"dim": dim, "ffn": 4 * dim, "heads": heads}
    sizes: dict[str, Any] = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in both.items()}
    return OFAConfig(encoder_layers=layers[0], decoder_layers=layers[1], trunk_blocks=trunk, **sizes)


SIZES: dict[str, OFAConfig] = {
    "ofa-tiny": _size((4, 4), 256, 4, (3, 4, 6)),
    "ofa-medium": _size((4, 4), 512, 8, (3, 4, 23)),
    "ofa-base": _size((6, 6), 768, 12, (3, 4, 23)),
    "ofa-large": _size((12, 12), 1024, 16, (3, 8, 36)),
    "ofa-huge": _size((24, 12), 1280, 16, (3, 8, 36)),
}
