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
from mue_edge.models.ofa.decoder import Decoder
from mue_edge.models.ofa.encoder import Encoder
from mue_edge.models.ofa.generate import GeneratedHypothesis, generate
from mue_edge.models.ofa.incremental import KvMode
from mue_edge.models.ofa.options import MueOptions, options_for
from mue_edge.models.ofa.outputs import EncoderOutput
from mue_edge.models.ofa.score import Form, Scores, score

__all__ = ["EncoderOutput", "GeneratedHypothesis", "Model", "Scores", "load"]


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

    def encode(
        self, src_tokens: Tensor, patch_images: Tensor, patch_masks: Tensor | None = None,
        *, decomposed: bool, policy: ExitPolicy | None = None, options: MueOptions | None = None,
    ) -> EncoderOutput:  # fmt: skip
        """Words [B, T] (right padding) and pixels [B, 3, H, W]; `patch_masks` [B]: false = no image.

        A policy may end the stacks "image" and "text" (or "encoder") early, in eval mode.
        `options` default to those of the policy's rule.
        """
        chosen = options_for(policy, options)
        if not decomposed:
            return self.encoder.forward_joint(
                src_tokens, patch_images, patch_masks, policy=policy, options=chosen
            )
        return self.encoder.forward_decomposed(
            src_tokens, patch_images, patch_masks, policy=policy, options=chosen
        )

    def decode(self, prev_output_tokens: Tensor, encoder_output: EncoderOutput) -> Tensor:
        """Teacher-forced logits [B, L, V] at full depth of target prefixes [B, L] (right padding)."""
        return self.decoder.project(self.decoder.hidden_states(prev_output_tokens, encoder_output)[-1])

    @torch.inference_mode()
    def generate(
        self, src_tokens: Tensor, patch_images: Tensor,
        *, patch_masks: Tensor | None = None, decomposed: bool | None = None,
        policy: ExitPolicy | None = None, options: MueOptions | None = None, kv: KvMode = "propagate",
        beam: int = 1, max_length: int = 16, min_length: int = 1,
        no_repeat_ngram: int = 3, length_penalty: float = 1.0,
    ) -> list[list[GeneratedHypothesis]]:  # fmt: skip
        """For each sample its finished hypotheses, best first.

        Source words [B, T] and pixels [B, 3, H, W]. `decomposed` defaults to the configuration's;
        `kv` is what skipped decoder layers remember (`mue_edge.models.ofa.incremental`);
        `max_length` words at most, without eos (fairseq's max_len_b).
        """
        chosen = options_for(policy, options)
        encoder_output = self.encode(
            src_tokens, patch_images, patch_masks,
            decomposed=self.config.decomposed if decomposed is None else decomposed,
            policy=policy, options=chosen,
        )  # fmt: skip
        c = self.config
        settings = SearchSettings(
            beam, max_length, min_length, no_repeat_ngram, length_penalty, c.bos, c.pad, c.eos
        )
        return generate(self.decoder, encoder_output, settings, policy=policy, options=chosen, kv=kv)

    @torch.inference_mode()
    def score(
        self, src_tokens: Tensor, patch_images: Tensor,
        prompt: Sequence[int], answers: Sequence[Sequence[int]],
        *, decomposed: bool | None = None, policy: ExitPolicy | None = None,
        options: MueOptions | None = None, form: Form = "joint",
    ) -> Scores:  # fmt: skip
        """Which of `answers` continues the decoder input `prompt` best, for one sample (entailment).

        Source words [1, T], pixels [1, 3, H, W]; see `mue_edge.models.ofa.score.score`.
        """
        chosen = options_for(policy, options)
        decomposed = self.config.decomposed if decomposed is None else decomposed
        encoder_output = self.encode(
            src_tokens, patch_images, decomposed=decomposed, policy=policy, options=chosen
        )
        return score(self.decoder, encoder_output, prompt, answers, policy=policy, options=chosen, form=form)


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
