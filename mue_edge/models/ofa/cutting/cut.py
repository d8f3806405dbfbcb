"""Where an OFA/MuE model is cut: its stacks, and the segments, constants and layout of a request."""

from __future__ import annotations

import torch

from mue_edge.errors import UsageError
from mue_edge.loop.protocol import DECODER, Layout
from mue_edge.models.cut import Cut, CutRequest, StackShape
from mue_edge.models.ofa.cutting import encoder_stacks
from mue_edge.models.ofa.cutting.decoder_stack import add_decoder
from mue_edge.models.ofa.cutting.parts import Parts
from mue_edge.models.ofa.model import Model


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
    parts = Parts(model, request)
    if not model.config.decomposed:
        encoder_stacks.add_joint(parts)
    else:
        encoder_stacks.add_image(parts)
        if parts.prompt is None:
            encoder_stacks.add_text(parts)
        else:
            encoder_stacks.add_prompt(parts, parts.prompt)
    add_decoder(parts)
    layout = Layout(
        stacks=tuple(parts.stacks),
        rows=search.beam,
        slots=search.beam * (search.max_length + 1),
        fill_rows=request.fill_rows,
        verify_rows=request.verify_rows,
        embeds_steps=not model.config.disable_entangle,
    )
    return Cut(tuple(parts.pieces), parts.constants, layout, parts.tables)
