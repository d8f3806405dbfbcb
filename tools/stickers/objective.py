"""What one step minimises: MuE's layer-wise loss at sampled encoder depths, and distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.outputs import EncoderOutput
from mue_edge.models.ofa.training.captions import layerwise_loss

OverLayers = Literal["sum", "mean", "depth", "last"]
Depths = tuple[int, int]  # encoder layers for the image and for the prompt


@dataclass(frozen=True)
class Batch:
    """pixels [B, 3, H, W] in −1 … 1; tokens [B, L + 1] (bos … eos, right padding).

    `features` [N, P, C], targets of a teacher for the first N samples; N may be 0.
    """

    pixels: Tensor
    tokens: Tensor
    features: Tensor


def encode(model: Model, prompt: Tensor, pixels: Tensor, depths: Depths) -> tuple[EncoderOutput, Tensor]:
    """Decomposed encoding of pictures [B, 3, H, W] under one prompt [1, T], without exits.

    Returns the decoder's input and the trunk's features [B, P, 16 * trunk_width].
    """
    trunk: list[Tensor] = []
    images = model.encoder.embed_images
    hook = images.register_forward_hook(lambda _module, _inputs, out: trunk.append(out))
    try:
        by_stack = dict(zip(("image", "text"), depths))
        encoded = model.encoder.encode(prompt, pixels, decomposed=True, depths=by_stack)
    finally:
        hook.remove()
    return encoded, trunk[0].flatten(2).transpose(1, 2)


class Students(nn.Module):
    """Throw-away heads that regress a teacher's features from the trunk and from the encoder's output."""

    def __init__(self, model: Model, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(model.config.trunk_channels, channels)
        self.encoder = nn.Linear(model.config.encoder_dim, channels)

    def forward(self, trunk: Tensor, encoded: Tensor, features: Tensor) -> Tensor:
        """Mean squared error of both heads against [N, P, C], over the first N samples."""
        n, patches = features.shape[:2]
        near = F.mse_loss(self.trunk(trunk[:n]).float(), features)
        far = F.mse_loss(self.encoder(encoded[:n, :patches]).float(), features)
        return near + far


def layer_weights(layers: int, over_layers: OverLayers) -> Tensor:
    """Of each layer's loss [N]: "depth" is the mean weighted by a layer's number (PABEE, Zhou et al. 2020,
    equation 5; CALM, Schuster et al. 2022, section 4), "last" the last layer's alone."""
    if over_layers == "last":
        return torch.eye(layers)[-1]
    weight = torch.arange(1.0, layers + 1) if over_layers == "depth" else torch.ones(layers)
    return weight if over_layers == "sum" else weight / weight.sum()


def decoder_loss(
    decoder: Decoder,
    encoded: EncoderOutput,
    tokens: Tensor,
    *,
    label_smoothing: float = 0.0,
    last_layer_only: bool = False,
    over_layers: OverLayers = "mean",
) -> tuple[Tensor, float]:
    """Layer-wise loss of captions [B, L + 1] (a mean over words), and the last layer's a word."""
    lengths = tokens.ne(decoder.config.pad).sum(1)
    order, words = lengths.argsort(), int((lengths - 1).sum())
    total, last = torch.zeros(()), 0.0
    # Two halves by length: short captions do not pay for the padding of long ones.
    for rows in order.chunk(2):
        some = tokens[rows, : int(lengths[rows].max())]
        part = EncoderOutput(encoded.hidden[rows], (), encoded.padding_mask[rows], encoded.positions)
        states = decoder.hidden_states(some[:, :-1], part)[-1 if last_layer_only else 1 :]
        by_layer = layerwise_loss(decoder, states, some[:, 1:], label_smoothing)
        loss = by_layer @ layer_weights(len(by_layer), over_layers)
        total = total + loss / words
        last += float(by_layer[-1]) / words
    return total, last


def losses(
    model: Model,
    students: Students,
    prompt: Tensor,
    batch: Batch,
    depths: Depths,
    *,
    label_smoothing: float = 0.0,
    distil: float = 0.0,
    last_layer_only: bool = False,
) -> tuple[Tensor, dict[str, float]]:
    """Layer-wise loss (mean over layers and words) plus `distil` times the students' distance.

    With `last_layer_only` the decoder learns by its last layer, as one without exits does.
    Beside the loss: the last layer's loss a word, `words`, and the students' distance.
    """
    encoded, trunk = encode(model, prompt, batch.pixels, depths)
    total, last = decoder_loss(
        model.decoder, encoded, batch.tokens, label_smoothing=label_smoothing, last_layer_only=last_layer_only
    )
    distance = 0.0
    if distil and len(batch.features):
        apart = students(trunk, encoded.hidden, batch.features)
        total = total + distil * apart
        distance = float(apart.detach())
    return total, {"words": last, "distance": distance}
