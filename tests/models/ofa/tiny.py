"""Small networks in which every parameter has a say: nothing is left at zero or one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.model import Model

TINY = OFAConfig(
    vocab_size=40,
    encoder_layers=3,
    encoder_dim=16,
    encoder_ffn=24,
    encoder_heads=2,
    decoder_layers=3,
    decoder_dim=16,
    decoder_ffn=20,
    decoder_heads=2,
    trunk_blocks=(1, 1, 1),
    trunk_width=4,
    image_size=48,
    orig_image_size=48,
    token_bucket_size=4,
    image_bucket_size=6,
    max_source_positions=32,
    max_target_positions=32,
)
UNEQUAL = replace(
    TINY,
    decoder_dim=24,
    decoder_heads=6,
    decoder_layers=2,
    share_all_embeddings=False,
    share_decoder_input_output_embed=False,
)


def make(config: OFAConfig = TINY, seed: int = 0, **changes: Any) -> Model:
    """A random model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    model = Model(replace(config, **changes))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            around_one = value.dim() == 1 and not name.endswith(("bias", "running_mean"))
            if around_one:
                value.copy_(1 + 0.2 * noise.clamp(-2, 2))
            else:
                value.copy_(noise * (0.3 if value.dim() == 1 else value[0].numel() ** -0.5))
            if "rel_pos_table" in name or "positions" in name:
                value.copy_(noise)
    return model.eval()


def inputs(samples: int = 2, height: int = 48, width: int = 48, words: int = 5) -> tuple[Tensor, Tensor]:
    """Source words [B, T] without padding, and pixels [B, 3, H, W]."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, 40, (samples, words), generator=generator)
    tokens[:, 0] = 0
    tokens[:, -1] = 2
    return tokens, torch.rand(samples, 3, height, width, generator=generator) * 2 - 1


def targets(samples: int = 2, words: int = 6) -> Tensor:
    """Decoder inputs [B, L] without padding, bos first."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(4, 40, (samples, words), generator=generator)
    tokens[:, 0] = 0
    return tokens
