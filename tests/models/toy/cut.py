"""The toy's segments, as `docs/contract.md` names them, and the cut.

Shapes: P patches, d width, n layers of a segment, Q rows, M slots; one head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.loop.protocol import DECODER, PICTURE, WORDS, Layout, Stack, Stage
from mue_edge.models.cut import Cut, CutRequest, Piece
from mue_edge.models.outputs import candidates, flat_similarity, similarity
from tests.models.toy.network import Toy, distances

EOS = 2
EYE = "eye"  # what its first stack is called


class Segment(nn.Module):
    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.layers = layers


class Encoder(Segment):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = before = x
        for layer in self.layers:
            before, y = y, layer(y)
        return y, *flat_similarity(y[0], before[0])


class CrossKV(Segment):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        k, v = ([getattr(layer, name)(x) for layer in self.layers] for name in ("cross_k", "cross_v"))
        return torch.stack(k), torch.stack(v)


class Decoder(Segment):
    def forward(
        self,
        x: Tensor,
        slots: Tensor,
        slot_bias: Tensor,
        own_bias: Tensor,
        cross_k: Tensor,
        cross_v: Tensor,
        cross_bias: Tensor,
    ) -> tuple[Tensor, ...]:
        y = before = x[None]
        rows = []
        for i, layer in enumerate(self.layers):
            k, v = layer.k(y), layer.v(y)
            rows.append(torch.cat([k, v]).transpose(0, 1))
            keys, values = torch.cat([slots[i, :1], k], 1), torch.cat([slots[i, 1:], v], 1)
            own = keys, values, torch.cat([slot_bias[i], own_bias[i]], 2)
            before, y = y, layer(y, own, (cross_k[i], cross_v[i], cross_bias))
        return y[0], *similarity(y[0], before[0]), torch.stack(rows)


class Fill(Segment):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.stack([layer.k(x), layer.v(x)], 1) for layer in self.layers])


class Head(nn.Module):
    def __init__(self, head: nn.Linear, k: int) -> None:
        super().__init__()
        self.head, self.k = head, k

    def forward(self, y: Tensor) -> tuple[Tensor, ...]:
        logits = self.head(y)
        return *candidates(logits, self.k), logits[:, EOS]


def cut(network: Toy, request: CutRequest) -> Cut:
    c, rows, steps = network.config, request.search.beam, request.search.max_length + 1
    if request.verify_rows or request.search.answers:
        raise UsageError("toys write captions, and check no drafts")
    if (request.height, request.width) != (c.side, c.side):
        raise UsageError(f"a toy's pictures have {c.side} pixels a side")
    d, patches, slots = c.width, len(network.patches.places), rows * steps
    spans = {s: list(enumerate(zip((0, *ends[:-1]), ends))) for s, ends in request.ends.items()}
    top = min(request.search.candidate_count, c.words)
    y, x, scored = torch.zeros(rows, d), torch.zeros(1, patches, d), ("y", "score", "gap")
    pieces = [
        Piece("stem", network.patches, {"pixels": torch.zeros(1, 3, c.side, c.side)}, ("x",)),
        Piece("embed", network.words, {"ids": torch.zeros(rows, dtype=torch.long)}, ("x",)),
        Piece("head", Head(network.head, top), {"y": y}, ("top_ids", "top_values", "logsumexp", "eos")),
    ]
    for j, span in spans[EYE]:
        pieces.append(Piece(f"{EYE}.{j}", Encoder(network.seeing[slice(*span)]), {"x": x}, scored, EYE, *span))
    constants = {"cross_bias": torch.zeros(steps, 1, patches)}
    for j, span in spans["decoder"]:
        layers, n, of = network.speaking[slice(*span)], span[1] - span[0], ("decoder", *span)
        constants[f"self_bias.{j}"] = distances(steps).repeat(n, 1, 1, 1)
        kv = {"cross_k": torch.zeros(n, 1, patches, d), "cross_v": torch.zeros(n, 1, patches, d)}
        fed = {
            "x": y, "slots": torch.zeros(n, 2, slots, d), "slot_bias": torch.zeros(n, 1, rows, slots),
            "own_bias": torch.zeros(n, 1, rows, rows), **kv, "cross_bias": torch.zeros(1, rows, patches),
        }  # fmt: skip
        pieces.append(Piece(f"cross_kv.{j}", CrossKV(layers), {f"{EYE}_x": x}, ("k", "v"), *of))
        pieces.append(Piece(f"decoder.{j}", Decoder(layers), fed, (*scored, "kv_rows"), *of))
        if j:
            pending = {"x": torch.zeros(request.fill_rows, d)}
            pieces.append(Piece(f"fill.{j}", Fill(layers), pending, ("kv_rows",), *of))
    stages = {s: tuple(Stage(f"{s}.{j}", last) for j, (_, last) in of) for s, of in spans.items()}
    stacks = Stack(EYE, PICTURE, stages[EYE], "stem"), Stack(DECODER, WORDS, stages[DECODER], "embed")
    layout = Layout(stacks, rows, slots, request.fill_rows)
    return Cut(tuple(pieces), {name: value.numpy() for name, value in constants.items()}, layout)
