"""The encoder's stacks: MuE's two, image and text, or OFA's joint one.

Constants (float32): pos_q, pos_k [H, S, w] of the image or joint encoder; text_x.DEPTH [1, T, d], a
constant prompt's states after every depth; text_bias.j [n, H, T, T] of a text branch. Tables: image_rel.j or
encoder_rel.j.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mue_edge.loop.protocol import CONSTANT, LIVE, PICTURE, TEXT, Stack, Stage
from mue_edge.loop.signals import ENOUGH, SIGNALS, SIMILARITY
from mue_edge.models.cut import Piece, Table
from mue_edge.models.ofa.cutting import encoder_segments as seg
from mue_edge.models.ofa.cutting.parts import SCORED, Parts, array
from mue_edge.models.ofa.network import positions as pos
from mue_edge.models.ofa.network.layers import EncoderLayer, each
from mue_edge.models.outputs import flat_similarity


def add_image(parts: Parts) -> None:
    """MuE's stack of patches, with the depth gate if the model has one."""
    c, tensors = parts.config, parts.model.heads.get("gate")
    gate = None if tensors is None else seg.Gate(tensors)
    outputs = ("x",) if gate is None else ("x", *SIGNALS[ENOUGH].ports)
    stem = seg.Stem(parts.model.encoder, gate=gate)
    parts.pieces.append(Piece("stem", stem, {"pixels": parts.pixels}, outputs))
    index = pos.image_buckets(*parts.grid, c.image_bucket_size) if c.image_relative_bias else None
    signals = (SIMILARITY,) if gate is None else (SIMILARITY, ENOUGH)
    _add_picture_stack(parts, "image", parts.image_positions, index, signals)


def add_prompt(parts: Parts, prompt: Tensor) -> None:
    """A constant prompt's text branch: its state after each layer is a constant."""
    encoder = parts.model.encoder
    bias = encoder.text_bias(parts.text_positions)
    x, distances = encoder.embed_words(prompt), []
    for i, layer in enumerate(encoder.layers):
        y = layer(x, bias(i))
        distances.append(float(flat_similarity(y[0], x[0])[1]))
        x = y
        parts.constant(f"text_x.{i + 1}", x)
    parts.stacks.append(Stack("text", CONSTANT, distances=tuple(distances)))


def add_text(parts: Parts) -> None:
    """A text branch that runs on the device, before the picture's."""
    encoder, stem = parts.model.encoder, _text_inputs(parts)
    parts.pieces.append(Piece("text_stem", seg.TextStem(encoder), stem, ("x",)))
    bias, stages = encoder.text_bias(parts.text_positions), []
    for j, (first, last) in enumerate(parts.spans("text")):
        name = f"text_bias.{j}"
        inputs = {
            "x": torch.zeros(1, parts.words, parts.config.encoder_dim),
            "bias": parts.constant(name, torch.stack([bias(i) for i in range(first, last)])),
            "live": stem["live"],
        }
        module = seg.TextSegment(each(encoder.layers[first:last], EncoderLayer))
        parts.pieces.append(Piece(f"text.{j}", module, inputs, SCORED, "text", first, last))
        stages.append(Stage(f"text.{j}", last, {"bias": name, "live": "source_live"}))
    parts.stacks.insert(0, Stack("text", TEXT, tuple(stages), "text_stem"))


def add_joint(parts: Parts) -> None:
    """One sequence [image ; words]; the stack has no trained exits, so it is one segment by default.

    The words are a constant prompt's, or those of a text that comes with the picture.
    """
    c, encoder = parts.config, parts.model.encoder
    patches, size = parts.patches, parts.patches + parts.words
    image_rows = pos.image_table_rows(c.image_bucket_size)
    none = image_rows + pos.token_table_rows(c.token_bucket_size)
    index = torch.full((size, size), none, dtype=torch.long)
    index[:patches, :patches] = pos.image_buckets(*parts.grid, c.image_bucket_size)
    index[patches:, patches:] = pos.token_buckets(parts.words, c.token_bucket_size) + image_rows
    words = None if parts.prompt is None else encoder.embed_words(parts.prompt)
    parts.pieces.append(Piece("stem", seg.Stem(encoder, words), {"pixels": parts.pixels}, ("x",)))
    if words is None:
        inputs = {"patches": torch.zeros(1, patches, c.encoder_dim)} | _text_inputs(parts)
        parts.pieces.append(Piece("text_stem", seg.JointStem(encoder, patches), inputs, ("x", "all_live")))
    positions = torch.cat([parts.image_positions, parts.text_positions])
    joins = "text_stem" if words is None else ""
    _add_picture_stack(parts, "encoder", positions, index, (SIMILARITY,), joins=joins, trained=False)


def _text_inputs(parts: Parts) -> dict[str, Tensor]:
    """Example inputs of what reads a text that comes with the picture."""
    return {"ids": torch.zeros(parts.words, dtype=torch.long), "live": torch.ones(1, parts.words, 1)}


def _add_picture_stack(
    parts: Parts, name: str, positions: Tensor, index: Tensor | None, signals: tuple[str, ...], **of: Any
) -> None:
    """Segments over [1, S, d] for normalised `positions` [S, d].

    index: rows of the relative tables for every pair [S, S]; None: there is no relative bias. signals: what
    exit tests read before the last layer; of: further fields of the Stack.
    """
    c, size, stages = parts.config, len(positions), []
    queries, keys = parts.model.encoder.projected_positions(positions)
    scale = (c.encoder_dim // c.encoder_heads * c.attn_scale_factor) ** -0.5
    columns = {"pos_q": parts.constant("pos_q", queries * scale), "pos_k": parts.constant("pos_k", keys)}
    for j, (first, last) in enumerate(parts.spans(name)):
        constants = {port: f"constant:{port}" for port in columns}
        inputs = {"x": torch.zeros(1, size, c.encoder_dim), **columns}
        if index is not None:
            parts.tables[f"{name}_rel.{j}"] = _table(parts, name, first, last, index)
            constants["rel"] = f"constant:{name}_rel.{j}"
            inputs["rel"] = torch.zeros(last - first, c.encoder_heads, size, size)
        if of.get("joins"):
            constants["live"], inputs["live"] = LIVE, torch.ones(1, size, 1)
        module = seg.EncoderSegment(each(parts.model.encoder.layers[first:last], EncoderLayer))
        parts.pieces.append(Piece(f"{name}.{j}", module, inputs, SCORED, name, first, last))
        tested = signals if last < c.encoder_layers else (SIMILARITY,)
        stages.append(Stage(f"{name}.{j}", last, constants, tested))
    parts.stacks.append(Stack(name, PICTURE, tuple(stages), "stem", **of))


def _table(parts: Parts, name: str, first: int, last: int, index: Tensor) -> Table:
    """The rows of the segment's relative tables that occur at this size; of the joint encoder, the image's
    rows, the words', and zeros for a patch and a word."""
    state, rows = parts.model.encoder.state_dict(), []
    for i in range(first, last):
        image = state[f"image_rel_pos_table_list.{i}.weight"]
        token = state[f"token_rel_pos_table_list.{i}.weight"]
        joint = torch.cat([image, token, torch.zeros(1, parts.config.encoder_heads)])
        rows.append(image if name == "image" else joint)
    used, local = torch.unique(index, return_inverse=True)
    return Table(array(torch.stack(rows)[:, used]), local.to(torch.int32).numpy())
