"""The decoder's stack. Constants (float32) for L = max_length + 1 steps: self_bias.j [n, H, L, L] and
cross_bias [L, H, S]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mue_edge.loop.protocol import DECODER, WORDS, Stack, Stage
from mue_edge.loop.signals import CONFIDENCE, FORESIGHT, RAMP, SIGNALS, SIMILARITY
from mue_edge.models.cut import Piece
from mue_edge.models.heads import of_depth
from mue_edge.models.ofa.cutting import decoder_segments as seg
from mue_edge.models.ofa.cutting.parts import SCORED, Parts
from mue_edge.models.ofa.network.layers import DecoderLayer, each

HEAD_OUTPUTS = ("top_ids", "top_values", "logsumexp", "eos")
# Modules that make the states which a signal of the vocabulary's head reads, by the kind of heads.
STATE_HEADS: dict[str, tuple[str, Callable[[dict[str, Tensor]], nn.Module]]] = {
    "foresight": (FORESIGHT, seg.Imitation), "ramps": (RAMP, seg.Ramp),
}  # fmt: skip


def add_decoder(parts: Parts) -> None:
    """Embedding, head, and for every segment: keys and values of the encoder's states, the step itself, the
    states that heads read, the fill of skipped layers, and the check of drafts."""
    c, decoder, request, pieces = parts.config, parts.model.decoder, parts.request, parts.pieces
    rows, steps, checked_rows = request.search.beam, request.search.max_length + 1, request.verify_rows
    dim, biases = c.decoder_dim, decoder.self_biases(steps)
    positions = torch.cat([parts.image_positions, parts.text_positions])[None]
    parts.constant("cross_bias", decoder.cross_bias(steps, positions).transpose(0, 1))
    answers, top = request.search.answers, min(request.search.needed, c.vocab_size)
    head = seg.ChoiceHead(decoder, answers) if answers else seg.Head(decoder, top, c.eos)
    embed = seg.Embed(decoder, steps)
    pieces.append(Piece("embed", embed, {"ids": _ids(parts, rows)}, ("x",)))
    pieces.append(Piece("head", head, {"y": torch.zeros(rows, dim)}, HEAD_OUTPUTS))
    memory, stages = _memory(parts), []
    for j, (first, last) in enumerate(parts.spans(DECODER)):
        n, layers, span = last - first, each(decoder.layers[first:last], DecoderLayer), (DECODER, first, last)
        parts.constant(f"self_bias.{j}", torch.stack(biases[first:last]))
        pieces.append(
            Piece(f"cross_kv.{j}", seg.CrossKV(parts.model.encoder, layers), memory, ("k", "v"), *span)
        )
        signals, confidence, state_heads = _heads(parts, last)
        outputs = ("y", *(port for name in signals for port in SIGNALS[name].ports), "kv_rows")
        step = seg.DecoderSegment(layers, confidence)
        pieces.append(Piece(f"{DECODER}.{j}", step, _step_inputs(parts, n, rows), outputs, *span))
        for states, module in state_heads.items():
            pieces.append(Piece(f"{states}.{j}", module, {"y": torch.zeros(rows, dim)}, (states,), *span))
        if j and steps > 1:  # a single step leaves nothing to fill
            skipped = {"x": torch.zeros(request.fill_rows, dim)}
            pieces.append(Piece(f"fill.{j}", seg.Fill(layers), skipped, ("kv_rows",), *span))
        stages.append(Stage(f"{DECODER}.{j}", last, signals=signals))
        if checked_rows:
            check = seg.DecoderSegment(layers)
            pieces.append(
                Piece(f"verify.{j}", check, _step_inputs(parts, n, checked_rows), (*SCORED, "kv_rows"), *span)
            )
    if checked_rows:
        checked = {"y": torch.zeros(checked_rows, dim)}
        pieces.append(
            Piece("verify_embed", seg.Embed(decoder, steps), {"ids": _ids(parts, checked_rows)}, ("x",))
        )
        pieces.append(Piece("verify_head", seg.Head(decoder, top, c.eos), checked, HEAD_OUTPUTS))
    parts.stacks.append(Stack(DECODER, WORDS, tuple(stages), "embed"))


def _step_inputs(parts: Parts, layers: int, queries: int) -> dict[str, Tensor]:
    """Example inputs of a decoder segment of so many layers."""
    dim, heads = parts.config.decoder_dim, parts.config.decoder_heads
    slots = parts.request.search.beam * (parts.request.search.max_length + 1)
    size = parts.patches + parts.words
    return {
        "x": torch.zeros(queries, dim),
        "slots": torch.zeros(layers, 2, slots, dim),
        "slot_bias": torch.zeros(layers, heads, queries, slots),
        "own_bias": torch.zeros(layers, heads, queries, queries),
        "cross_k": torch.zeros(layers, heads, size, dim // heads),
        "cross_v": torch.zeros(layers, heads, size, dim // heads),
        "cross_bias": torch.zeros(heads, queries, size),
    }


def _ids(parts: Parts, rows: int) -> Tensor:
    """Example input of `embed`: ids, and the rows' steps where the decoder adds position vectors to them."""
    return torch.zeros(rows if parts.config.disable_entangle else 2 * rows, dtype=torch.long)


def _memory(parts: Parts) -> dict[str, Tensor]:
    """Example input of `cross_kv`: the encoder's states."""
    dim = parts.config.encoder_dim
    if parts.config.decomposed:
        return {"image_x": torch.zeros(1, parts.patches, dim), "text_x": torch.zeros(1, parts.words, dim)}
    return {"encoder_x": torch.zeros(1, parts.patches + parts.words, dim)}


def _heads(parts: Parts, depth: int) -> tuple[tuple[str, ...], seg.Confidence | None, dict[str, nn.Module]]:
    """Signals after so many decoder layers, and the heads of that boundary: the segment's own, and those that
    the vocabulary's head reads instead of its states, by their name. The last layer has none: nothing is
    tested there."""
    heads = parts.model.heads if depth < parts.config.decoder_layers else {}
    at = {kind: of_depth(tensors, depth) for kind, tensors in heads.items()}
    confidence = seg.Confidence(at["confidence"]) if "confidence" in at else None
    modules = {name: module(at[kind]) for kind, (name, module) in STATE_HEADS.items() if kind in at}
    names = (SIMILARITY, *([] if confidence is None else [CONFIDENCE]), *modules)
    return names, confidence, {SIGNALS[name].states: module for name, module in modules.items()}
