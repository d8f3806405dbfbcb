"""OFA, and MuE's version of it, as a `mue_edge.models.family.Family`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.errors import InputFileError
from mue_edge.models.family import Description, Family, Judging, Training
from mue_edge.models.ofa.config import NAME, SIZES, from_json
from mue_edge.reading import read_json

if TYPE_CHECKING:
    from mue_edge.models.cut import Cut, CutRequest, Piece, StackShape
    from mue_edge.models.importing import ImportRequest, ModelContent
    from mue_edge.models.ofa.model import Model


class _OFA:
    name = NAME
    sizes = tuple(SIZES)
    checkpoints = (
        "a fairseq .pt file, a Hugging Face OFA folder (also in shards), a folder with one such file, or a "
        ".safetensors file with --config. Its vocabulary is fairseq's folder (dict.txt, encoder.json, "
        "vocab.bpe; in a checkout of OFA: utils/BPE) or a Hugging Face one (vocab.json, merges.txt)"
    )

    def recognises(self, checkpoint: Path, config: Path | None) -> bool:
        """Unless its settings name another kind of model: fairseq's files say nothing until they are read."""
        beside = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "config.json"
        settings = config or beside
        try:
            data = read_json(settings) if settings.is_file() else {}
        except InputFileError:
            return True
        kind = data.get("model_type") if isinstance(data, dict) else None
        return kind in (None, "ofa")

    def content(self, request: ImportRequest) -> ModelContent:
        from mue_edge.models.ofa.importing.content import content

        return content(request)

    def describe(self, config: Mapping[str, Any]) -> Description:
        c = from_json(config)
        special, layers = (c.bos, c.pad, c.eos), (c.encoder_layers, c.decoder_layers)
        lengths = c.max_source_positions, c.max_target_positions
        return Description(c.preprocess, c.vocab_size, *special, *layers, *lengths)

    def load(self, folder: Path, config: Mapping[str, Any]) -> Model:
        from mue_edge.models.ofa.model import load

        return load(folder, config)

    def config(self, network: Model) -> dict[str, Any]:
        return network.config.to_json()

    def stacks(self, network: Model) -> dict[str, StackShape]:
        from mue_edge.models.ofa.cutting.cut import stacks

        return stacks(network)

    def cut(self, network: Model, request: CutRequest) -> Cut:
        from mue_edge.models.ofa.cutting.cut import cut

        return cut(network, request)

    @property
    def whole(self) -> Callable[[Model, CutRequest], tuple[Piece, Piece, Piece]]:
        from mue_edge.models.ofa.cutting.whole import whole

        return whole

    @property
    def training(self) -> Training[Model]:
        from mue_edge.models.ofa.training import captions

        return captions

    @property
    def judging(self) -> Judging[Model]:
        from mue_edge.models.ofa.training import statements

        return statements


FAMILY: Family[Model] = _OFA()
