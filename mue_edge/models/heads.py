"""Heads for exit tests, in a model folder beside the weights: small networks by kind, and what trains them.

`heads.safetensors` holds the tensors KIND.NAME of every kind that `mue-edge train --heads` has made; it is
not there before. A family's cut puts them into the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.models import weights

FILE = "heads.safetensors"
# Kind → name → tensor.
Heads = dict[str, dict[str, Tensor]]
HIDDEN = 64  # units of the gate
TEMPERATURES = (2.0, 8.0)  # at 1 a choice is nearly always sure
FREE = -1  # a length that the file chooses


@dataclass(frozen=True)
class Sizes:
    """Layers and width of the picture's encoder and of the decoder."""

    encoder_layers: int
    encoder_dim: int
    decoder_layers: int
    decoder_dim: int


Shapes = dict[str, tuple[int, ...]]


def _gate(s: Sizes) -> Shapes:
    """Features → HIDDEN units → a logit for every encoder boundary."""
    boundaries = s.encoder_layers - 1
    return {
        "hidden.weight": (HIDDEN, s.encoder_dim),
        "hidden.bias": (HIDDEN,),
        "out.weight": (boundaries, HIDDEN),
        "out.bias": (boundaries,),
    }


def _of_decoder(boundary: Callable[[int], Shapes]) -> Callable[[Sizes], Shapes]:
    """For every decoder boundary, by the layers before it: the shapes that the decoder's width makes."""

    def shapes(s: Sizes) -> Shapes:
        depths = range(1, s.decoder_layers)
        return {f"{k}.{name}": shape for name, shape in boundary(s.decoder_dim).items() for k in depths}

    return shapes


def _confidence(s: Sizes) -> Shapes:
    """For every decoder boundary a vector, a bias and the weights of how sure a choice between a few words is
    at each of TEMPERATURES; all boundaries share these words' rows."""
    own = _of_decoder(lambda d: {"weight": (d,), "bias": (), "sure": (len(TEMPERATURES),)})
    return own(s) | {"words.weight": (FREE, s.decoder_dim), "words.bias": (FREE,)}


def _imitation(d: int) -> Shapes:
    """A network that imitates the last layer's state, and what mixes the two."""
    return {"inner.weight": (d, d), "inner.bias": (d,), "outer.weight": (d, d), "mix.weight": (d, d), "mix.bias": (d,)}


# "ramps": a linear map of the states.
KINDS: Mapping[str, Callable[[Sizes], Shapes]] = {
    "confidence": _confidence,
    "gate": _gate,
    "foresight": _of_decoder(_imitation),
    "ramps": _of_decoder(lambda d: {"weight": (d, d), "bias": (d,)}),
}
# What earlier versions wrote; it is read as it is.
EARLIER = {"confidence": _of_decoder(lambda d: {"weight": (d,), "bias": ()})}


def of_depth(tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The tensors of one boundary, and those that all boundaries share."""
    start = f"{depth}."
    shared = {name: value for name, value in tensors.items() if not name.partition(".")[0].isdigit()}
    return shared | {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _fit(parts: Mapping[str, Tensor], shapes: Shapes) -> bool:
    """Whether tensors have these shapes, all that are FREE the same length."""
    free = [n for name in shapes.keys() & parts.keys() for n, m in zip(parts[name].shape, shapes[name]) if m == FREE]
    wanted = {name: tuple(max(free, default=m) if m == FREE else m for m in shape) for name, shape in shapes.items()}
    return {name: tuple(value.shape) for name, value in parts.items()} == wanted


def read(folder: Path, sizes: Sizes) -> Heads:
    """The heads of a folder, none if it has no such file. Raises InputFileError for one that does not fit."""
    path = folder / FILE
    heads: Heads = {}
    if not path.is_file():
        return heads
    for key, value in weights.read(path).items():
        kind, _, name = key.partition(".")
        heads.setdefault(kind, {})[name] = value.float()
    for kind, parts in heads.items():
        if kind not in KINDS:
            raise InputFileError(f"{path} holds heads of the kind {kind!r}; known: {', '.join(KINDS)}")
        if not any(_fit(parts, shapes(sizes)) for shapes in (KINDS[kind], EARLIER.get(kind, KINDS[kind]))):
            raise InputFileError(
                f"the {kind} heads of {path} are not those of a model with {sizes.encoder_layers} + "
                f"{sizes.decoder_layers} layers of {sizes.encoder_dim} and {sizes.decoder_dim} channels; "
                "make them again with: mue-edge train --heads"
            )
        if not all(bool(torch.isfinite(value).all()) for value in parts.values()):
            raise InputFileError(f"{path} holds values that are not finite ({kind})")
    return heads


def write(folder: Path, heads: Heads) -> None:
    """Into an existing model folder."""
    tensors = {f"{kind}.{name}": v.contiguous() for kind, parts in heads.items() for name, v in parts.items()}
    weights.save(tensors, folder / FILE)


@dataclass(frozen=True)
class Steps:
    """What every decoder layer makes of every word, for training heads. N words: states [N, L + 1, d] after
    0, 1, … L decoder layers; of each layer but the last [N, L − 1] by how much its best word is likelier than
    its second, and whether it is the last layer's."""

    states: Tensor
    margin: Tensor
    same: Tensor

    @staticmethod
    def of(states: Tensor, logits: Tensor) -> Steps:
        """From states [N, L + 1, d] and each layer's logits [N, L, V]."""
        two = torch.softmax(logits[:, :-1], -1).topk(2).values
        best = logits.argmax(-1)
        return Steps(states, two[..., 0] - two[..., 1], best[:, :-1] == best[:, -1:])

    @staticmethod
    def joined(parts: Sequence[Steps]) -> Steps:
        return Steps(*(torch.cat([getattr(p, name) for p in parts]) for name in ("states", "margin", "same")))
