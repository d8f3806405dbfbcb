"""The toy as a `mue_edge.models.family.Family`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mue_edge.bundle.manifest import Preprocess
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.loop.protocol import DECODER
from mue_edge.models import weights
from mue_edge.models.cut import Cut, CutRequest, StackShape
from mue_edge.models.family import Description, Family
from mue_edge.models.importing import ImportRequest, ModelContent
from mue_edge.reading import read_json, read_text
from tests.models.toy import training
from tests.models.toy.cut import EYE, cut
from tests.models.toy.network import Config, Toy, config_of
from tests.models.toy.training import PROMPTS

LONGEST = 32


class _Family:
    """A checkpoint is a folder: config.json with "model_type": "toy", model.safetensors, words.txt."""

    name, sizes = "toy", ("toy-small",)
    checkpoints = "a toy's folder"
    training, judging, whole = training, None, None

    def recognises(self, checkpoint: Path, config: Path | None) -> bool:
        try:
            return bool(read_json(config or checkpoint / "config.json").get("model_type") == "toy")
        except (InputFileError, OSError, AttributeError):
            return False

    def content(self, request: ImportRequest) -> ModelContent:
        if request.decomposed is not None or request.ema or request.task == "entail":
            raise UsageError("toys have one encoder, plain weights and one task")
        if request.checkpoint is None:
            torch.manual_seed(request.seed)
            network = Toy(Config())
            return ModelContent(asdict(Config()), weights.stored_weights(network), "a toy", None, PROMPTS)
        data = read_json(request.checkpoint / "config.json")
        config = config_of({k: v for k, v in data.items() if k != "model_type"})
        network = Toy(config)
        weights.fill(network, request.checkpoint)
        spoken = read_text(request.checkpoint / "words.txt").split()
        words = Tokenizer(("<s>", "<pad>", "</s>", "<unk>", *spoken), (), frozenset(range(4)))
        return ModelContent(asdict(config), weights.stored_weights(network), "a toy", words, PROMPTS)

    def describe(self, config: Mapping[str, Any]) -> Description:
        c = config_of(config)
        return Description(Preprocess(c.side, c.side), c.words, 0, 1, 2, c.seeing, c.speaking, 2, LONGEST)

    def load(self, folder: Path, config: Mapping[str, Any]) -> Toy:
        network = Toy(config_of(config))
        weights.fill(network, folder)
        return network.eval()

    def config(self, network: Toy) -> dict[str, Any]:
        return asdict(network.config)

    def stacks(self, network: Toy) -> dict[str, StackShape]:
        return {EYE: StackShape(network.config.seeing), DECODER: StackShape(network.config.speaking)}

    def cut(self, network: Toy, request: CutRequest) -> Cut:
        return cut(network, request)


FAMILY: Family[Toy] = _Family()


def checkpoint(folder: Path, words: Sequence[str], seed: int = 15) -> Path:
    """A folder as somebody may have one."""
    torch.manual_seed(seed)
    folder.mkdir()
    config = Config(words=4 + len(words))
    network = Toy(config)
    with torch.no_grad():  # large enough that pictures and depths matter
        for name, value in network.named_parameters():
            value.mul_(1.5 if value.dim() > 1 and "places" not in name else 1)
    weights.save(weights.stored_weights(network), folder / weights.WEIGHTS)
    (folder / "config.json").write_text(json.dumps({"model_type": "toy"} | asdict(config)))
    (folder / "words.txt").write_text("\n".join(words))
    return folder
