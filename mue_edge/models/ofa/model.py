"""The OFA network: `Model` with joint (OFA) and decomposed (MuE) encoder, and `load` for model folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mue_edge.errors import InputFileError
from mue_edge.loop.policy import ExitPolicy
from mue_edge.loop.search import SearchSettings
from mue_edge.models import heads, weights
from mue_edge.models.ofa.config import NAME, OFAConfig, from_json
from mue_edge.models.ofa.decoding.generate import GeneratedHypothesis, generate
from mue_edge.models.ofa.decoding.incremental import KvMode
from mue_edge.models.ofa.decoding.score import Form, Scores, score
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.encoder import Encoder
from mue_edge.models.ofa.network.exits import MueOptions, options_for
from mue_edge.models.ofa.network.outputs import EncoderOutput


class Model(nn.Module):
    """Encoder and decoder of one configuration, freshly initialised; `load` reads trained ones."""

    family = NAME

    def __init__(self, config: OFAConfig) -> None:
        super().__init__()
        if config.share_all_embeddings and config.encoder_dim != config.decoder_dim:
            raise InputFileError(
                f"config: share_all_embeddings needs equal widths, but encoder_dim is {config.encoder_dim} "
                f"and decoder_dim {config.decoder_dim}"
            )
        self.config = config
        # Heads for exit tests. Not of the network's own weights.
        self.heads: heads.Heads = {}
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.encoder.embed_tokens)

    def encode(self, src_tokens: Tensor, patch_images: Tensor, *masks: Tensor, **settings: Any) -> EncoderOutput:
        """`Encoder.encode`, whose arguments these are."""
        return self.encoder.encode(src_tokens, patch_images, *masks, **settings)

    def decode(self, prev_output_tokens: Tensor, encoder_output: EncoderOutput) -> Tensor:
        """Teacher-forced logits [B, L, V] at full depth of target prefixes [B, L] (right padding)."""
        return self.decoder.project(self.decoder.hidden_states(prev_output_tokens, encoder_output)[-1])

    @torch.inference_mode()
    def generate(
        self,
        src_tokens: Tensor,
        patch_images: Tensor,
        *,
        patch_masks: Tensor | None = None,
        decomposed: bool | None = None,
        policy: ExitPolicy | None = None,
        options: MueOptions | None = None,
        kv: KvMode = "propagate",
        **search: Any,
    ) -> list[list[GeneratedHypothesis]]:
        """For each sample its finished hypotheses, best first.

        The encoder's input and options as in `encode`. `kv` is what skipped decoder layers remember
        (`mue_edge.models.ofa.decoding.incremental`); `search`: fields of `SearchSettings`, such as beam,
        max_length (without eos, fairseq's max_len_b), min_length, no_repeat_ngram and length_penalty.
        """
        options, c = options_for(policy, options), self.config
        encoded = self.encoder.encode(
            src_tokens, patch_images, patch_masks, decomposed=decomposed, policy=policy, options=options
        )
        settings = SearchSettings(**search, bos=c.bos, pad=c.pad, eos=c.eos)
        return generate(self.decoder, encoded, settings, policy, options, kv)

    @torch.inference_mode()
    def score(
        self,
        src_tokens: Tensor,
        patch_images: Tensor,
        prompt: Sequence[int],
        answers: Sequence[Sequence[int]],
        *,
        decomposed: bool | None = None,
        policy: ExitPolicy | None = None,
        options: MueOptions | None = None,
        form: Form = "joint",
    ) -> Scores:
        """Which of `answers` continues the decoder input `prompt` best, for one sample (entailment).

        Source words [1, T], pixels [1, 3, H, W]; see `mue_edge.models.ofa.decoding.score.score`.
        """
        options = options_for(policy, options)
        encoded = self.encode(src_tokens, patch_images, decomposed=decomposed, policy=policy, options=options)
        return score(self.decoder, encoded, prompt, answers, policy, options, form)


def load(folder: Path, config: Mapping[str, Any]) -> Model:
    """The model of a folder whose `config.json` has been read: eval mode, float32.

    Raises InputFileError naming every missing, surplus and misshaped tensor.
    """
    # Shapes only: the weights of the file then take the place of the parameters, uncopied.
    with torch.device("meta"):
        model = Model(from_json(config))
    weights.fill(model, folder)
    model.heads = heads.read(folder, head_sizes(model.config))
    return model.eval()


def head_sizes(config: OFAConfig) -> heads.Sizes:
    """What the heads of a model are made for."""
    return heads.Sizes(config.encoder_layers, config.encoder_dim, config.decoder_layers, config.decoder_dim)
