"""The network as it is exported without cuts: an encoder, and a decoder step with cached keys and values.

They are the network's own layers, without what the segments gain (`encoder_segments`): what a bundle is compared
with. Shapes: B beams, P patches, S encoder positions, H heads of width w, t words so far, N decoder layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.models.cut import CutRequest, Piece
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.encoder import Encoder
from mue_edge.models.ofa.network.layers import EncoderLayer, each

_WORDS = 3  # so far, in the example


class PatchStem(nn.Module):
    """pixels [1, 3, H, W] → x [1, P, d]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encoder.embed_patches(pixels)[0]


class WholeEncoder(nn.Module):
    """pixels [1, 3, H, W] → each decoder layer's keys and values [1, H, S, w] of picture and constant prompt."""

    def __init__(self, model: Model, prompt: Tensor, pixels: Tensor) -> None:
        super().__init__()
        encoder, words = model.encoder, model.encoder.embed_words(prompt)
        grid = encoder.embed_patches(pixels)[1]
        image, text = encoder.image_positions(grid), encoder.text_positions(prompt.shape[1])
        self.decomposed, self.stem, self.decoder = model.config.decomposed, PatchStem(encoder), model.decoder
        self.layers, self.norm = each(encoder.layers, EncoderLayer), encoder.layer_norm
        bias = encoder.image_bias(image, grid) if self.decomposed else encoder.joint_bias(image, text, grid)
        self.biases = [bias(i) for i in range(len(self.layers))]
        if self.decomposed:
            text_bias = encoder.text_bias(text)
            for i, layer in enumerate(self.layers):
                words = layer(words, text_bias(i))
        self.words, self.positions = words, torch.cat([image, text])[None]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(pixels)
        if not self.decomposed:
            x = torch.cat([x, self.words], 1)
        for layer, bias in zip(self.layers, self.biases):
            x = layer(x, bias)
        hidden = self.norm(torch.cat([x, self.words], 1) if self.decomposed else x)
        layers = map(self.decoder.layer, range(len(self.decoder.layers)))
        return tuple(part for layer in layers for part in layer.encoder_attn.keys_values(hidden))


class WholeDecoder(nn.Module):
    """ids [B], with beams the row that each descends from [B], keys and values of the encoder's output
    [1, H, S, w] and of the words so far [B, H, t, w] by layer → logits [B, V], keys and values
    [B, H, t + 1, w] by layer."""

    def __init__(self, decoder: Decoder, positions: Tensor, steps: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.self_biases = torch.stack(decoder.self_biases(steps))
        self.cross_bias = decoder.cross_bias(steps, positions)

    def forward(self, ids: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        layers = len(self.decoder.layers)
        cross, past = cached[-4 * layers : -2 * layers], cached[-2 * layers :]
        if len(cached) > 4 * layers:
            past = tuple(part[cached[0]] for part in past)
        at = past[0].shape[2]
        own, over = self.self_biases[:, :, at : at + 1, : at + 1], self.cross_bias[:, at : at + 1]
        x, present = self.decoder.embed(ids[:, None], at), list[Tensor]()
        for i in range(layers):
            layer, j = self.decoder.layer(i), 2 * i
            so_far, encoded = (past[j], past[j + 1]), (cross[j], cross[j + 1])
            x, kept = layer(x, so_far, own[i], None, encoded, over, None)
            present += kept
        return self.decoder.project(x)[:, 0], *present


@torch.no_grad()
def whole(model: Model, request: CutRequest) -> tuple[Piece, Piece, Piece]:
    """Stem, encoder (stem included) and decoder; `past` inputs vary in length.

    Raises UsageError for what is no caption under a constant prompt.
    """
    search, c = request.search, model.config
    if request.prompt is None or search.answers:
        raise UsageError("only captions under a constant prompt are compared with the model run whole")
    pixels, beam = torch.zeros(1, 3, request.height, request.width), search.beam
    encoder = WholeEncoder(model, torch.tensor([request.prompt]), pixels)
    decoder = WholeDecoder(model.decoder, encoder.positions, search.max_length + 1)
    of = [f"{part}.{i}" for i in range(c.decoder_layers) for part in ("k", "v")]
    cross, past, present = ([f"{name}_{part}" for part in of] for name in ("cross", "past", "present"))
    ids = {"ids": torch.zeros(beam, dtype=torch.long)}
    if beam > 1:
        ids["parents"] = torch.arange(beam)
    words = torch.zeros(beam, c.decoder_heads, _WORDS, c.decoder_dim // c.decoder_heads)
    cached = dict(zip(cross, encoder(pixels))) | {name: words.clone() for name in past}
    return (
        Piece("stem", encoder.stem, {"pixels": pixels}, ("x",)),
        Piece("encoder", encoder, {"pixels": pixels}, tuple(cross)),
        Piece("decoder", decoder, ids | cached, ("logits", *present)),
    )
