"""Where an OFA/MuE model is cut, and the constants that its segments are fed.

Constants (float32): pos_q, pos_k [H, S, w] of the image or joint encoder; text_x.DEPTH [1, T, d], a
constant prompt's states after every depth; text_bias.j [n, H, T, T] of a text branch; self_bias.j
[n, H, L, L] and cross_bias [L, H, S] of the decoder for L = max_length + 1 steps. Tables:
image_rel.j or encoder_rel.j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.loop.protocol import CONSTANT, DECODER, LIVE, PICTURE, TEXT, WORDS, Layout, Stack, Stage
from mue_edge.loop.signals import CONFIDENCE, ENOUGH, FORESIGHT, RAMP, SIGNALS, SIMILARITY
from mue_edge.models.cut import Cut, CutRequest, Piece, StackShape, Table
from mue_edge.models.heads import of_depth
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.cutting import segments as seg
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network import positions as pos
from mue_edge.models.ofa.network.layers import DecoderLayer, EncoderLayer
from mue_edge.models.outputs import flat_similarity

Array = NDArray[np.float32]
SCORED = ("y", "score", "gap")


def stacks(model: Model) -> dict[str, StackShape]:
    """The stacks. Nobody trains a joint encoder to be left early."""
    layers = model.config.encoder_layers
    if model.config.decomposed:
        encoder = {"image": StackShape(layers), "text": StackShape(layers)}
    else:
        encoder = {"encoder": StackShape(layers, trained=False)}
    return encoder | {DECODER: StackShape(model.config.decoder_layers)}


def cut(model: Model, request: CutRequest) -> Cut:
    """The segments of `model`. Raises UsageError for what cannot be cut as asked."""
    _check(model, request)
    with torch.no_grad():
        world = _World.of(model, request)
        encoder = _decomposed(world) if model.config.decomposed else _joint(world)
        decoder = _decoder(world)
    return Cut(
        pieces=(*encoder.pieces, *decoder.pieces),
        constants=encoder.constants | decoder.constants,
        tables=encoder.tables,
        layout=Layout(
            stacks=(*encoder.stacks, *decoder.stacks), rows=request.search.beam,
            slots=request.search.beam * (request.search.max_length + 1), fill_rows=request.fill_rows,
            verify_rows=request.verify_rows, embeds_steps=not model.config.disable_entangle,
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class _World:
    """What all parts of the cut need: the model, its positions at this size, example tensors' sizes."""

    model: Model
    request: CutRequest
    grid: tuple[int, int]
    image_positions: Tensor
    text_positions: Tensor
    prompt: Tensor | None

    @staticmethod
    def of(model: Model, request: CutRequest) -> _World:
        encoder = model.encoder
        _, grid = encoder.embed_patches(torch.zeros(1, 3, request.height, request.width))
        prompt = None if request.prompt is None else torch.tensor([request.prompt])
        length = request.text_length if prompt is None else prompt.shape[1]
        return _World(
            model, request, grid,
            encoder.image_positions(grid),
            encoder.text_positions(length),
            prompt,
        )  # fmt: skip

    @property
    def patches(self) -> int:
        return len(self.image_positions)

    @property
    def words(self) -> int:
        return len(self.text_positions)

    def encoder_layers(self, first: int, last: int) -> list[EncoderLayer]:
        return [layer for layer in self.model.encoder.layers[first:last] if isinstance(layer, EncoderLayer)]

    def decoder_layers(self, first: int, last: int) -> list[DecoderLayer]:
        return [self.model.decoder.layer(i) for i in range(first, last)]


@dataclass(frozen=True)
class _Part:
    pieces: tuple[Piece, ...]
    constants: dict[str, Array]
    stacks: tuple[Stack, ...]
    tables: dict[str, Table]


def _decomposed(world: _World) -> _Part:
    image = _image_part(world)
    text = _prompt_part(world) if world.prompt is not None else _text_part(world)
    return _Part(
        image.pieces + text.pieces, image.constants | text.constants,
        text.stacks + image.stacks if world.prompt is None else image.stacks + text.stacks, image.tables,
    )  # fmt: skip


def _image_part(world: _World) -> _Part:
    c, encoder = world.model.config, world.model.encoder
    constants = _position_columns(world, world.image_positions)
    tables: dict[str, Table] = {}
    tensors = world.model.heads.get("gate")
    gate = None if tensors is None else seg.Gate(tensors)
    told = () if gate is None else SIGNALS[ENOUGH].ports
    pieces = [Piece("stem", seg.Stem(encoder, gate=gate), {"pixels": _pixels(world)}, ("x", *told))]
    stages = []
    buckets = pos.image_buckets(*world.grid, c.image_bucket_size)
    for j, (first, last) in enumerate(_spans(world.request.ends["image"])):
        fed = {"pos_q": "constant:pos_q", "pos_k": "constant:pos_k"}
        inputs = {"x": torch.zeros(1, world.patches, c.encoder_dim)} | {
            port: torch.from_numpy(constants[port]) for port in ("pos_q", "pos_k")
        }
        if c.image_relative_bias:
            tables[f"image_rel.{j}"] = _table(encoder.image_rel_pos_table_list, first, last, buckets)
            fed["rel"] = f"constant:image_rel.{j}"
            inputs["rel"] = torch.zeros(last - first, c.encoder_heads, world.patches, world.patches)
        module = seg.EncoderSegment(world.encoder_layers(first, last))
        pieces.append(Piece(f"image.{j}", module, inputs, SCORED, "image", first, last))
        tested = gate is not None and last < c.encoder_layers
        signals = (SIMILARITY, ENOUGH) if tested else (SIMILARITY,)
        stages.append(Stage(f"image.{j}", last, fed, signals))
    return _Part(tuple(pieces), constants, (Stack("image", PICTURE, tuple(stages), "stem"),), tables)


def _prompt_part(world: _World) -> _Part:
    """A constant prompt's text branch is a constant: its state after each layer."""
    assert world.prompt is not None
    encoder = world.model.encoder
    bias = encoder.text_bias(world.text_positions)
    x, constants, distances = encoder.embed_words(world.prompt), {}, []
    for i, layer in enumerate(world.encoder_layers(0, len(encoder.layers))):
        y = layer(x, bias(i))
        distances.append(float(flat_similarity(y[0], x[0])[1]))
        x = y
        constants[f"text_x.{i + 1}"] = _array(x)
    return _Part((), constants, (Stack("text", CONSTANT, distances=tuple(distances)),), {})


def _text_part(world: _World) -> _Part:
    c, encoder = world.model.config, world.model.encoder
    words, stem = world.words, _read_text(world)
    pieces = [Piece("text_stem", seg.TextStem(encoder), stem, ("x",))]
    constants, stages = {}, []
    bias = encoder.text_bias(world.text_positions)
    for j, (first, last) in enumerate(_spans(world.request.ends["text"])):
        constants[f"text_bias.{j}"] = _array(torch.stack([bias(i) for i in range(first, last)]))
        inputs = {
            "x": torch.zeros(1, words, c.encoder_dim),
            "bias": torch.from_numpy(constants[f"text_bias.{j}"]),
            "live": stem["live"],
        }
        module = seg.TextSegment(world.encoder_layers(first, last))
        pieces.append(Piece(f"text.{j}", module, inputs, SCORED, "text", first, last))
        stages.append(Stage(f"text.{j}", last, {"bias": f"text_bias.{j}", "live": "source_live"}))
    return _Part(tuple(pieces), constants, (Stack("text", TEXT, tuple(stages), "text_stem"),), {})


def _read_text(world: _World) -> dict[str, Tensor]:
    """Example inputs of what reads a text that comes with the picture."""
    return {"ids": torch.zeros(world.words, dtype=torch.long), "live": torch.ones(1, world.words, 1)}


def _joint(world: _World) -> _Part:
    """One sequence [image ; words]; the stack has no trained exits, so it is one segment by default.

    The words are a constant prompt's, or those of a text that comes with the picture.
    """
    c, encoder = world.model.config, world.model.encoder
    patches, size = world.patches, world.patches + world.words
    constants = _position_columns(world, torch.cat([world.image_positions, world.text_positions]))
    image_rows = pos.image_table_rows(c.image_bucket_size)
    none = image_rows + pos.token_table_rows(c.token_bucket_size)
    index = torch.full((size, size), none, dtype=torch.long)
    index[:patches, :patches] = pos.image_buckets(*world.grid, c.image_bucket_size)
    index[patches:, patches:] = pos.token_buckets(world.words, c.token_bucket_size) + image_rows
    words = None if world.prompt is None else encoder.embed_words(world.prompt)
    pieces = [Piece("stem", seg.Stem(encoder, words), {"pixels": _pixels(world)}, ("x",))]
    if words is None:
        read = {"patches": torch.zeros(1, patches, c.encoder_dim)} | _read_text(world)
        pieces.append(Piece("text_stem", seg.JointStem(encoder, patches), read, ("x", "all_live")))
    tables, stages = {}, []
    for j, (first, last) in enumerate(_spans(world.request.ends["encoder"])):
        tables[f"encoder_rel.{j}"] = _joint_table(world, first, last, index)
        inputs = {"x": torch.zeros(1, size, c.encoder_dim)} | {
            port: torch.from_numpy(constants[port]) for port in ("pos_q", "pos_k")
        }
        inputs["rel"] = torch.zeros(last - first, c.encoder_heads, size, size)
        module = seg.EncoderSegment(world.encoder_layers(first, last))
        pieces.append(Piece(f"encoder.{j}", module, inputs, SCORED, "encoder", first, last))
        fed = {"pos_q": "constant:pos_q", "pos_k": "constant:pos_k", "rel": f"constant:encoder_rel.{j}"}
        if words is None:
            inputs["live"], fed["live"] = torch.ones(1, size, 1), LIVE
        stages.append(Stage(f"encoder.{j}", last, fed))
    stack = Stack(
        "encoder",
        PICTURE,
        tuple(stages),
        "stem",
        joins="" if words is not None else "text_stem",
        trained=False,
    )
    return _Part(tuple(pieces), constants, (stack,), tables)


def _decoder(world: _World) -> _Part:
    c, decoder, request = world.model.config, world.model.decoder, world.request
    rows, steps = request.search.beam, request.search.max_length + 1
    heads, dim, width = c.decoder_heads, c.decoder_dim, c.decoder_dim // c.decoder_heads
    size = world.patches + world.words
    biases = decoder.self_biases(steps)
    positions = torch.cat([world.image_positions, world.text_positions])[None]
    constants = {"cross_bias": _array(decoder.cross_bias(steps, positions).transpose(0, 1))}
    answers, top = request.search.answers, min(request.search.needed, c.vocab_size)
    head = seg.ChoiceHead(decoder, answers) if answers else seg.Head(decoder, top, c.eos)
    pieces = [
        Piece("embed", seg.Embed(decoder, steps), {"ids": _ids(c, rows)}, ("x",)),
        Piece(
            "head", head, {"y": torch.zeros(rows, dim)},
            ("top_ids", "top_values", "logsumexp", "eos"),
        ),
    ]  # fmt: skip
    memory = _memory(world)
    stages = []
    for j, (first, last) in enumerate(_spans(request.ends[DECODER])):
        n, layers = last - first, world.decoder_layers(first, last)
        constants[f"self_bias.{j}"] = _array(torch.stack(biases[first:last]))
        kv = (n, heads, size, width)
        inputs = {
            "x": torch.zeros(rows, dim),
            "slots": torch.zeros(n, 2, rows * steps, dim),
            "slot_bias": torch.zeros(n, heads, rows, rows * steps),
            "own_bias": torch.zeros(n, heads, rows, rows),
            "cross_k": torch.zeros(kv), "cross_v": torch.zeros(kv),
            "cross_bias": torch.zeros(heads, rows, size),
        }  # fmt: skip
        fill = {"x": torch.zeros(request.fill_rows, dim)}
        cross = seg.CrossKV(world.model.encoder, layers)
        span = (DECODER, first, last)
        pieces.append(Piece(f"cross_kv.{j}", cross, memory, ("k", "v"), *span))
        signals, sure, instead = _heads(world, last)
        outputs = ("y", *(port for name in signals for port in SIGNALS[name].ports), "kv_rows")
        pieces.append(Piece(f"{DECODER}.{j}", seg.DecoderSegment(layers, sure), inputs, outputs, *span))
        for states, module in instead.items():
            pieces.append(Piece(f"{states}.{j}", module, {"y": torch.zeros(rows, dim)}, (states,), *span))
        if j and steps > 1:  # a single step leaves nothing to fill
            pieces.append(Piece(f"fill.{j}", seg.Fill(layers), fill, ("kv_rows",), *span))
        stages.append(Stage(f"{DECODER}.{j}", last, signals=signals))
        if request.verify_rows:
            checked = {port: _widened(port, x, request.verify_rows) for port, x in inputs.items()}
            module = seg.DecoderSegment(layers)
            pieces.append(Piece(f"verify.{j}", module, checked, (*SCORED, "kv_rows"), *span))
    if request.verify_rows:
        ids = _ids(c, request.verify_rows)
        pieces += [
            Piece("verify_embed", seg.Embed(decoder, steps), {"ids": ids}, ("x",)),
            Piece(
                "verify_head", seg.Head(decoder, top, c.eos), {"y": torch.zeros(request.verify_rows, dim)},
                ("top_ids", "top_values", "logsumexp", "eos"),
            ),
        ]  # fmt: skip
    return _Part(tuple(pieces), constants, (Stack(DECODER, WORDS, tuple(stages), "embed"),), {})


def _ids(config: OFAConfig, rows: int) -> Tensor:
    """Example input of `embed`: ids, and the rows' steps where the decoder adds position vectors to them."""
    return torch.zeros(rows if config.disable_entangle else 2 * rows, dtype=torch.long)


def _widened(port: str, x: Tensor, rows: int) -> Tensor:
    """A greedy decoder segment's example input for so many queries."""
    if port == "x":
        return torch.zeros(rows, x.shape[1])
    if port == "own_bias":
        return torch.zeros(*x.shape[:2], rows, rows)
    if port in ("slot_bias", "cross_bias"):
        return torch.zeros(*x.shape[:-2], rows, x.shape[-1])
    return x


# What makes the states that a signal of the head reads, by the kind of heads.
INSTEAD: dict[str, tuple[str, Callable[[dict[str, Tensor]], nn.Module]]] = {
    "foresight": (FORESIGHT, seg.Foresight), "ramps": (RAMP, seg.Ramp),
}  # fmt: skip


def _heads(world: _World, depth: int) -> tuple[tuple[str, ...], seg.Confidence | None, dict[str, nn.Module]]:
    """Signals after so many decoder layers, and the heads of that boundary: the segment's own, and those that
    the vocabulary's head reads instead of its states, by their name. The last layer has none: nothing is
    tested there."""
    heads = world.model.heads if depth < world.model.config.decoder_layers else {}
    at = {kind: of_depth(tensors, depth) for kind, tensors in heads.items()}
    sure = at.get("confidence")
    confidence = None if sure is None else seg.Confidence(sure["weight"], sure["bias"])
    made = {name: module(at[kind]) for kind, (name, module) in INSTEAD.items() if kind in at}
    names = (SIMILARITY, *([CONFIDENCE] if sure is not None else []), *made)
    return names, confidence, {SIGNALS[name].states: module for name, module in made.items()}


def _memory(world: _World) -> dict[str, Tensor]:
    dim = world.model.config.encoder_dim
    if world.model.config.decomposed:
        return {"image_x": torch.zeros(1, world.patches, dim), "text_x": torch.zeros(1, world.words, dim)}
    return {"encoder_x": torch.zeros(1, world.patches + world.words, dim)}


def _position_columns(world: _World, positions: Tensor) -> dict[str, Array]:
    """The absolute bias as products: pos_q [H, S, w] (scaled) and pos_k [H, S, w]."""
    c = world.model.config
    queries, keys = world.model.encoder.projected_positions(positions)
    scale = (c.encoder_dim // c.encoder_heads * c.attn_scale_factor) ** -0.5
    return {"pos_q": _array(queries * scale), "pos_k": _array(keys)}


def _table(list_of_tables: nn.ModuleList, first: int, last: int, index: Tensor) -> Table:
    return _compact(torch.stack(_weights(list_of_tables, first, last)), index)


def _joint_table(world: _World, first: int, last: int, index: Tensor) -> Table:
    encoder, heads = world.model.encoder, world.model.config.encoder_heads
    image = _weights(encoder.image_rel_pos_table_list, first, last)
    token = _weights(encoder.token_rel_pos_table_list, first, last)
    zero = torch.zeros(1, heads)
    return _compact(torch.stack([torch.cat([i, t, zero]) for i, t in zip(image, token)]), index)


def _compact(rows: Tensor, index: Tensor) -> Table:
    """Only the rows that occur at this size."""
    used, local = torch.unique(index, return_inverse=True)
    return Table(_array(rows[:, used]), local.to(torch.int32).numpy())


def _weights(list_of_tables: nn.ModuleList, first: int, last: int) -> list[Tensor]:
    return [table.weight for table in list_of_tables[first:last] if isinstance(table, nn.Embedding)]


def _pixels(world: _World) -> Tensor:
    return torch.zeros(1, 3, world.request.height, world.request.width)


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().to(torch.float32).numpy())


def _spans(ends: Sequence[int]) -> Iterable[tuple[int, int]]:
    return zip((0, *ends[:-1]), ends)


def _check(model: Model, request: CutRequest) -> None:
    if request.verify_rows and request.search.beam > 1:
        raise UsageError("drafts are verified for greedy captions only; leave out --beam or --lossless")
    for stack, shape in stacks(model).items():
        ends, depth = request.ends.get(stack, ()), shape.layers
        if not ends or list(ends) != sorted(set(ends)) or ends[0] < 1 or ends[-1] != depth:
            raise UsageError(
                f"boundaries of {stack!r} must rise from at least 1 to its {depth} layers, not {list(ends)}"
            )
