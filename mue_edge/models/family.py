"""What a family of models is to the rest of the product: a `Family`, the object `FAMILY` of the module that
`mue_edge.models.FAMILIES` names.

Nothing outside of a family's folder knows its name, its classes or the keys of its `config.json`. The module
is imported where torch is not, so a family's methods import what needs it.
Shapes: B pictures, H × W pixels, L words, V ids, d channels of the decoder, E and N layers of encoder and
decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mue_edge.bundle.manifest import Preprocess

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mue_edge.inputs.tokens import Tokenizer
    from mue_edge.models.cut import Cut, CutRequest, Piece, StackShape
    from mue_edge.models.heads import Heads, Steps
    from mue_edge.models.importing import ImportRequest, ModelContent

# The class of a family's networks. It has a class attribute `family`: the family's name.
Network = TypeVar("Network", bound="nn.Module")
Judge = TypeVar("Judge", bound="nn.Module", contravariant=True)
# What a network is in when it is run whole.
PARTS = ("stem", "encoder", "decoder")
# Layers of the picture's encoder, and of the decoder.
Depths = tuple[int, int]
Words = Sequence[int]  # ids of a text
Ids = Sequence[Words]


@dataclass(frozen=True)
class Description:
    """What the product asks about a model; it follows from `config.json`.

    preprocess: how pictures become the input, at their usual size. bos, pad, eos: ids of the decoder's words.
    source_length: most tokens of a text that is read beside a picture. target_length: most tokens that the
    decoder is fed, bos among them.
    """

    preprocess: Preprocess
    vocab_size: int
    bos: int
    pad: int
    eos: int
    encoder_layers: int
    decoder_layers: int
    source_length: int
    target_length: int

    @property
    def picture(self) -> str:
        """Height and width in pixels, as one number where they are equal."""
        sides = self.preprocess.height, self.preprocess.width
        return "x".join(map(str, dict.fromkeys(sides)))

    @property
    def depths(self) -> Depths:
        return self.encoder_layers, self.decoder_layers

    @property
    def longest_caption(self) -> int:
        """Most tokens of a caption, bos and eos not counted."""
        return self.target_length - 1


class Training(Protocol[Network]):
    """Optional: networks that are trained on captioned pictures, and write captions in torch.

    Pictures are [B, 3, H, W], as `Description.preprocess` says; one prompt (ids) holds for all.
    """

    def fresh(self, config: dict[str, Any], vocabulary: Path) -> tuple[Network, Tokenizer, dict[str, Any]]:
        """An untrained network of a `config.json`, its tokenizer, and the content of `prompts.json`.

        vocabulary: a tokenizer.json, or a folder in the family's own format.
        Raises InputFileError when the two do not fit together.
        """

    def with_encoder(self, config: dict[str, Any], decomposed: bool) -> dict[str, Any]:
        """The configuration with an encoder that reads picture and text apart (MuE's), or jointly.

        Raises UsageError where the family has no choice.
        """

    def loss(
        self,
        network: Network,
        prompt: Words,
        pixels: Tensor,
        tokens: Tensor,
        *,
        shallow: float = 0.0,
        rng: torch.Generator | None = None,
        label_smoothing: float = 0.0,
        over_layers: Literal["sum", "mean"] = "sum",
    ) -> tuple[Tensor, Tensor]:
        """Layer-wise loss, in nats and summed over words, and each decoder layer's part [N], detached.

        tokens [B, L + 1] (bos … eos, padding).
        `shallow`: with this probability (drawn from `rng`) the encoder ends at depths drawn evenly.
        """

    def greedy(
        self,
        network: Network,
        prompt: Words,
        pixels: Tensor,
        *,
        max_length: int = 24,
        encoder_depth: int | None = None,
        decoder_depth: int | None = None,
    ) -> list[list[int]]:
        """Greedy captions (ids without bos and eos) at fixed depths (default: all layers)."""

    def greedy_by_depth(
        self, network: Network, prompt: Words, pixels: Tensor, cells: Sequence[Depths], *, max_length: int = 24
    ) -> dict[Depths, list[list[int]]]:
        """`greedy` at each pair of depths, the pictures encoded once for all.

        Raises UsageError for depths that the network does not have.
        """

    def steps(self, network: Network, prompt: Words, pixels: Tensor, rng: torch.Generator, max_length: int) -> Steps:
        """The words of greedy captions, at full decoder depth and an encoder depth drawn from `rng`."""

    def heads(self, network: Network) -> Heads:
        """The heads for exit tests that the network came with."""

    def logits(self, network: Network, states: Tensor) -> Tensor:
        """[..., V] that the decoder's head gives to states [..., d]; −inf of what is no word of a caption."""

    def features(self, network: Network, pixels: Tensor) -> Tensor:
        """[B, channels of the encoder]: means over the picture's tokens before the first encoder layer."""

    def see(self, network: Network, pixels: Tensor) -> None:
        """Pass pictures through what looks at them, for BatchNorm's statistics."""


class Judging(Protocol[Judge]):
    """Optional: networks that answer statements about pictures [B, 3, H, W].

    answers: their ids; sources: ids of the text around each statement; fed: ids that the decoder reads before
    it answers.
    """

    def steps(
        self, network: Judge, answers: Words, pixels: Tensor, sources: Ids, fed: Ids, rng: torch.Generator
    ) -> Steps:
        """The words in which statements are answered, at encoder depths drawn from `rng`."""

    def by_encoder_depth(self, network: Judge, answers: Words, pixels: Tensor, sources: Ids, fed: Ids) -> Tensor:
        """Places of the answers [E, B] when the picture's encoder exits after 1, 2, … E layers."""

    def logits(self, network: Judge, answers: Words, states: Tensor) -> Tensor:
        """[..., answers] that the decoder's head gives to states [..., d]."""


class Family(Protocol[Network]):
    """One family of models. A capability that it lacks is None."""

    @property
    def name(self) -> str:
        """Its key in FAMILIES, `family` of `config.json`, and `family` of its networks' class."""

    @property
    def checkpoints(self) -> str:
        """What `import` takes as this family's, for the user, beginning small and without a full stop: files,
        folders, and what --tokenizer names."""

    @property
    def sizes(self) -> Sequence[str]:
        """Names for `import --random`; no other family's."""

    def recognises(self, checkpoint: Path, config: Path | None) -> bool:
        """Whether a file or folder may be of this family, by names and settings (`config`: JSON, it wins).

        No large file is read, and nothing is raised for a damaged one.
        """

    def content(self, request: ImportRequest) -> ModelContent:
        """The model folder that a checkpoint, or a size's name and a seed, become.

        Raises InputFileError for a checkpoint or vocabulary that does not fit, UsageError for what of the
        request does not apply to this family.
        """

    def describe(self, config: Mapping[str, Any]) -> Description:
        """Of the content of a `config.json`. Raises InputFileError for one that does not fit."""

    def load(self, folder: Path, config: Mapping[str, Any]) -> Network:
        """The network of a folder whose `config.json` has been read (or changed): eval mode, float32.

        Raises InputFileError for weights that do not fit.
        """

    def config(self, network: Network) -> dict[str, Any]:
        """The content of `config.json`, from which the network can be loaded again."""

    def stacks(self, network: Network) -> dict[str, StackShape]:
        """The stacks in the order in which they run; the last is the decoder, `protocol.DECODER`."""

    def cut(self, network: Network, request: CutRequest) -> Cut:
        """The segments of a network, the constants that they are fed, and the layout that drives them.

        Raises UsageError for what cannot be cut as requested.
        """

    @property
    def whole(self) -> Callable[[Network, CutRequest], tuple[Piece, Piece, Piece]] | None:
        """Optional: a network run whole, its own layers without a cut: what bundles are compared with.

        PARTS are stem: pixels → anything; encoder, stem included: pixels → what the decoder reads of them;
        decoder: ids [B], with beams `parents` [B] (the row that each descends from), the encoder's outputs,
        `past_…` [B, H, t, w] → logits [B, V], `present_…` [B, H, t + 1, w]. Raises UsageError for what it does
        not write.
        """

    @property
    def training(self) -> Training[Network] | None: ...

    @property
    def judging(self) -> Judging[Network] | None: ...
