"""Where an OFA/MuE model is cut: its stacks, and the segments, constants and layout of a request.

Constants (float32): pos_q, pos_k [H, S, w] of the image or joint encoder; text_x.DEPTH [1, T, d], a
constant prompt's states after every depth; text_bias.j [n, H, T, T] of a text branch; self_bias.j
[n, H, L, L] and cross_bias [L, H, S] of the decoder for L = max_length + 1 steps. Tables:
image_rel.j or encoder_rel.j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mue_edge.errors import UsageError
from mue_edge.loop.protocol import CONSTANT, DECODER, LIVE_TOKENS, PICTURE, TEXT, WORDS, Layout, Stack, Stage
from mue_edge.loop.signals import CONFIDENCE, DEPTH_GATE, IMITATION, RAMP, SIGNALS, SIMILARITY
from mue_edge.models.cut import Cut, CutRequest, Piece, StackShape, Table
from mue_edge.models.heads import of_depth
from mue_edge.models.ofa.cutting import decoder_segments as dec
from mue_edge.models.ofa.cutting import encoder_segments as enc
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network import positions as pos
from mue_edge.models.ofa.network.layers import DecoderLayer, EncoderLayer, each
from mue_edge.models.outputs import flat_similarity

SCORED = ("y", "score", "gap")
HEAD_OUTPUTS = ("top_ids", "top_values", "logsumexp", "eos")
# Modules that make the states which a signal of the vocabulary's head reads, by the kind of heads.
STATE_HEADS: dict[str, tuple[str, Callable[[dict[str, Tensor]], nn.Module]]] = {
    "foresight": (IMITATION, dec.Imitation),
    "ramps": (RAMP, dec.Ramp),
}


def stacks(model: Model) -> dict[str, StackShape]:
    """The stacks. Nobody trains a joint encoder for early exits."""
    layers = model.config.encoder_layers
    if model.config.decomposed:
        encoder = {"image": StackShape(layers), "text": StackShape(layers)}
    else:
        encoder = {"encoder": StackShape(layers, trained=False)}
    return encoder | {DECODER: StackShape(model.config.decoder_layers)}


@torch.no_grad()
def cut(model: Model, request: CutRequest) -> Cut:
    """The segments of `model`. Raises UsageError for what cannot be cut as requested."""
    search = request.search
    if request.verify_rows and search.beam > 1:
        raise UsageError("drafts are verified for greedy captions only; leave out --beam or --lossless")
    for stack, shape in stacks(model).items():
        ends, depth = request.ends.get(stack, ()), shape.layers
        if not ends or list(ends) != sorted(set(ends)) or ends[0] < 1 or ends[-1] != depth:
            raise UsageError(
                f"boundaries of {stack!r} must rise from at least 1 to its {depth} layers, not {list(ends)}"
            )
    parts = _Parts(model, request)
    if not model.config.decomposed:
        _add_joint(parts)
    else:
        _add_image(parts)
        if parts.prompt is None:
            _add_text(parts)
        else:
            _add_prompt(parts, parts.prompt)
    _add_decoder(parts)
    layout = Layout(
        stacks=tuple(parts.stacks),
        rows=search.beam,
        slots=search.beam * (search.max_length + 1),
        fill_rows=request.fill_rows,
        verify_rows=request.verify_rows,
        embeds_steps=not model.config.disable_entangle,
    )
    return Cut(tuple(parts.pieces), parts.constants, layout, parts.tables)


class _Parts:
    """A model, its positions at the request's sizes, and the parts of its cut, which are added one by one.

    prompt: ids [1, T] of a constant prompt, or None.
    """

    def __init__(self, model: Model, request: CutRequest) -> None:
        self.model, self.request, self.config = model, request, model.config
        self.pixels = torch.zeros(1, 3, request.height, request.width)
        with FakeTensorMode(allow_non_fake_inputs=True):  # shapes only: the trunk computes nothing
            _, self.grid = model.encoder.embed_patches(torch.empty(self.pixels.shape))
        self.prompt = None if request.prompt is None else torch.tensor([request.prompt])
        self.words = request.text_length if self.prompt is None else self.prompt.shape[1]
        self.image_positions = model.encoder.image_positions(self.grid)
        self.text_positions = model.encoder.text_positions(self.words)
        self.patches = len(self.image_positions)
        self.pieces: list[Piece] = []
        self.constants: dict[str, NDArray[np.float32]] = {}
        self.tables: dict[str, Table] = {}
        self.stacks: list[Stack] = []

    def spans(self, stack: str) -> Iterable[tuple[int, int]]:
        """First layer, and last layer + 1, of each segment."""
        ends = self.request.ends[stack]
        return zip((0, *ends[:-1]), ends)

    def piece(
        self, name: str, module: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...], *span: Any
    ) -> None:
        """Add a segment; span: its stack, first layer, and last layer + 1."""
        self.pieces.append(Piece(name, module, inputs, outputs, *span))

    def constant(self, name: str, value: Tensor) -> Tensor:
        """Add a constant; it is returned as an example input."""
        self.constants[name] = _array(value)
        return torch.from_numpy(self.constants[name])


def _add_image(parts: _Parts) -> None:
    """MuE's stack of patches, with the depth gate if the model has one."""
    c, tensors = parts.config, parts.model.heads.get("gate")
    gate = None if tensors is None else enc.Gate(tensors)
    outputs = ("x",) if gate is None else ("x", *SIGNALS[DEPTH_GATE].ports)
    stem = enc.Stem(parts.model.encoder, gate=gate)
    parts.piece("stem", stem, {"pixels": parts.pixels}, outputs)
    index = pos.image_buckets(*parts.grid, c.image_bucket_size) if c.image_relative_bias else None
    signals = (SIMILARITY,) if gate is None else (SIMILARITY, DEPTH_GATE)
    _add_picture_stack(parts, "image", parts.image_positions, index, signals)


def _add_prompt(parts: _Parts, prompt: Tensor) -> None:
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


def _add_text(parts: _Parts) -> None:
    """A text branch that runs on the device, before the picture's."""
    encoder, stem = parts.model.encoder, _text_inputs(parts)
    parts.piece("text_stem", enc.TextStem(encoder), stem, ("x",))
    bias, stages = encoder.text_bias(parts.text_positions), []
    for j, (first, last) in enumerate(parts.spans("text")):
        name = f"text_bias.{j}"
        inputs = {
            "x": torch.zeros(1, parts.words, parts.config.encoder_dim),
            "bias": parts.constant(name, torch.stack([bias(i) for i in range(first, last)])),
            "live": stem["live"],
        }
        module = enc.TextSegment(each(encoder.layers[first:last], EncoderLayer))
        parts.piece(f"text.{j}", module, inputs, SCORED, "text", first, last)
        stages.append(Stage(f"text.{j}", last, {"bias": name, "live": "source_live"}))
    parts.stacks.insert(0, Stack("text", TEXT, tuple(stages), "text_stem"))


def _add_joint(parts: _Parts) -> None:
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
    parts.piece("stem", enc.Stem(encoder, words), {"pixels": parts.pixels}, ("x",))
    if words is None:
        inputs = {"patches": torch.zeros(1, patches, c.encoder_dim)} | _text_inputs(parts)
        parts.piece("text_stem", enc.JointStem(encoder, patches), inputs, ("x", "all_live"))
    positions = torch.cat([parts.image_positions, parts.text_positions])
    joins = "text_stem" if words is None else ""
    _add_picture_stack(parts, "encoder", positions, index, (SIMILARITY,), joins=joins, trained=False)


def _text_inputs(parts: _Parts) -> dict[str, Tensor]:
    """Example inputs of what reads a text that comes with the picture."""
    return {"ids": torch.zeros(parts.words, dtype=torch.long), "live": torch.ones(1, parts.words, 1)}


def _add_picture_stack(
    parts: _Parts, name: str, positions: Tensor, index: Tensor | None, signals: tuple[str, ...], **of: Any
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
            constants["live"], inputs["live"] = LIVE_TOKENS, torch.ones(1, size, 1)
        module = enc.EncoderSegment(each(parts.model.encoder.layers[first:last], EncoderLayer))
        parts.piece(f"{name}.{j}", module, inputs, SCORED, name, first, last)
        tested = signals if last < c.encoder_layers else (SIMILARITY,)
        stages.append(Stage(f"{name}.{j}", last, constants, tested))
    parts.stacks.append(Stack(name, PICTURE, tuple(stages), "stem", **of))


def _table(parts: _Parts, name: str, first: int, last: int, index: Tensor) -> Table:
    """The rows of the segment's relative tables that occur at this size; of the joint encoder, the image's
    rows, the words', and zeros for a patch and a word."""
    state, rows = parts.model.encoder.state_dict(), []
    for i in range(first, last):
        image = state[f"image_rel_pos_table_list.{i}.weight"]
        token = state[f"token_rel_pos_table_list.{i}.weight"]
        joint = torch.cat([image, token, torch.zeros(1, parts.config.encoder_heads)])
        rows.append(image if name == "image" else joint)
    used, local = torch.unique(index, return_inverse=True)
    return Table(_array(torch.stack(rows)[:, used]), local.to(torch.int32).numpy())


def _add_decoder(parts: _Parts) -> None:
    """Embedding, head, and for every segment: keys and values of the encoder's states, the step itself, the
    states that heads read, the fill of skipped layers, and the check of drafts."""
    c, decoder, request = parts.config, parts.model.decoder, parts.request
    rows, steps, checked_rows = request.search.beam, request.search.max_length + 1, request.verify_rows
    dim, biases = c.decoder_dim, decoder.self_biases(steps)
    positions = torch.cat([parts.image_positions, parts.text_positions])[None]
    parts.constant("cross_bias", decoder.cross_bias(steps, positions).transpose(0, 1))
    answers, top = request.search.answers, min(request.search.candidate_count, c.vocab_size)
    head = dec.ChoiceHead(decoder, answers) if answers else dec.Head(decoder, top, c.eos)
    embed = dec.Embed(decoder, steps)
    parts.piece("embed", embed, {"ids": _ids(parts, rows)}, ("x",))
    parts.piece("head", head, {"y": torch.zeros(rows, dim)}, HEAD_OUTPUTS)
    memory, stages = _memory(parts), []
    for j, (first, last) in enumerate(parts.spans(DECODER)):
        n, layers, span = last - first, each(decoder.layers[first:last], DecoderLayer), (DECODER, first, last)
        parts.constant(f"self_bias.{j}", torch.stack(biases[first:last]))
        parts.piece(f"cross_kv.{j}", dec.CrossKV(parts.model.encoder, layers), memory, ("k", "v"), *span)
        signals, confidence, state_heads = _heads(parts, last)
        outputs = ("y", *(port for name in signals for port in SIGNALS[name].ports), "kv_rows")
        step = dec.DecoderSegment(layers, confidence)
        parts.piece(f"{DECODER}.{j}", step, _step_inputs(parts, n, rows), outputs, *span)
        for states, module in state_heads.items():
            parts.piece(f"{states}.{j}", module, {"y": torch.zeros(rows, dim)}, (states,), *span)
        if j and steps > 1:  # a single step leaves nothing to fill
            skipped = {"x": torch.zeros(request.fill_rows, dim)}
            parts.piece(f"fill.{j}", dec.Fill(layers), skipped, ("kv_rows",), *span)
        stages.append(Stage(f"{DECODER}.{j}", last, signals=signals))
        if checked_rows:
            check = dec.DecoderSegment(layers)
            parts.piece(f"verify.{j}", check, _step_inputs(parts, n, checked_rows), (*SCORED, "kv_rows"), *span)
    if checked_rows:
        checked = {"y": torch.zeros(checked_rows, dim)}
        parts.piece("verify_embed", dec.Embed(decoder, steps), {"ids": _ids(parts, checked_rows)}, ("x",))
        parts.piece("verify_head", dec.Head(decoder, top, c.eos), checked, HEAD_OUTPUTS)
    parts.stacks.append(Stack(DECODER, WORDS, tuple(stages), "embed"))


def _step_inputs(parts: _Parts, layers: int, queries: int) -> dict[str, Tensor]:
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


def _ids(parts: _Parts, rows: int) -> Tensor:
    """Example input of `embed`: ids, and the rows' steps where the decoder adds position vectors to them."""
    return torch.zeros(rows if parts.config.disable_entangle else 2 * rows, dtype=torch.long)


def _memory(parts: _Parts) -> dict[str, Tensor]:
    """Example input of `cross_kv`: the encoder's states."""
    dim = parts.config.encoder_dim
    if parts.config.decomposed:
        return {"image_x": torch.zeros(1, parts.patches, dim), "text_x": torch.zeros(1, parts.words, dim)}
    return {"encoder_x": torch.zeros(1, parts.patches + parts.words, dim)}


def _heads(parts: _Parts, depth: int) -> tuple[tuple[str, ...], dec.Confidence | None, dict[str, nn.Module]]:
    """Signals after so many decoder layers, and the heads of that boundary: the segment's own, and those that
    the vocabulary's head reads instead of its states, by their name. The last layer has none: nothing is
    tested there."""
    heads = parts.model.heads if depth < parts.config.decoder_layers else {}
    at = {kind: of_depth(tensors, depth) for kind, tensors in heads.items()}
    confidence = dec.Confidence(at["confidence"]) if "confidence" in at else None
    modules = {name: module(at[kind]) for kind, (name, module) in STATE_HEADS.items() if kind in at}
    names = (SIMILARITY, *([] if confidence is None else [CONFIDENCE]), *modules)
    return names, confidence, {SIGNALS[name].states: module for name, module in modules.items()}


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().to(torch.float32).numpy())
