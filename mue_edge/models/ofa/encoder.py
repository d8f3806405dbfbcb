"""OFA's encoder: image patches and words in one sequence [image ; text], attended jointly or, in MuE, apart.

Decomposed, the same layers run once over the words and once over the patches, and neither ever
sees the other: each may leave after its own layer, and only the decoder brings them together.
Shapes: B samples, P patches, T words, S = P + T, H heads, d = encoder_dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.loop.policy import ExitPolicy
from mue_edge.models.ofa import positions as pos
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.layers import EncoderLayer, embedding, linear, tables
from mue_edge.models.ofa.options import MUE, MueOptions
from mue_edge.models.ofa.outputs import EncoderInput, EncoderOutput
from mue_edge.models.ofa.stack import BiasOfLayer, StackRun, first_layers, run_layers, run_with_exits
from mue_edge.models.ofa.trunk import Trunk


class Encoder(nn.Module):
    """Trunk, embeddings, position biases and layers; parameter names are fairseq's."""

    def __init__(self, config: OFAConfig) -> None:
        super().__init__()
        c, dim, heads = config, config.encoder_dim, config.encoder_heads
        self.config = config
        self.embed_scale = 1.0 if c.no_scale_embedding else dim**0.5
        self.embed_tokens = embedding(c.vocab_size, dim)
        self.layernorm_embedding = nn.LayerNorm(dim) if c.layernorm_embedding else None
        self.type_embedding = embedding(2, dim) if c.type_embedding else None
        self.embed_images = Trunk(c.trunk_blocks, c.trunk_width)
        self.image_proj = linear(c.trunk_channels, dim)
        self.patch_layernorm_embedding = nn.LayerNorm(dim) if c.patch_layernorm_embedding else None
        self.embed_positions = embedding(c.max_source_positions + 2, dim)
        self.embed_image_positions = embedding(c.image_bucket_size**2 + 1, dim)
        self.pos_ln = nn.LayerNorm(dim)
        self.image_pos_ln = nn.LayerNorm(dim)
        self.pos_q_linear = linear(dim, dim)
        self.pos_k_linear = linear(dim, dim)
        self.layers = nn.ModuleList(
            EncoderLayer(
                dim, c.encoder_ffn, heads, c.attn_scale_factor,
                c.scale_attn, c.scale_fc, c.scale_heads, c.scale_resids,
            )
            for _ in range(c.encoder_layers)
        )  # fmt: skip
        self.layer_norm = nn.LayerNorm(dim)
        token_rows, image_rows = (
            pos.token_table_rows(c.token_bucket_size),
            pos.image_table_rows(c.image_bucket_size),
        )
        self.token_rel_pos_table_list = tables(c.encoder_layers, token_rows, heads)
        self.image_rel_pos_table_list = tables(c.encoder_layers, image_rows, heads)

    def embed(
        self, src_tokens: Tensor, patch_images: Tensor, patch_masks: Tensor | None = None
    ) -> EncoderInput:
        """Words [B, T] and pixels [B, 3, H, W] (patch_masks [B]: false = no image) as the layers' input."""
        text_padding = src_tokens.eq(self.config.pad)
        words = self.embed_words(src_tokens).masked_fill(text_padding[..., None], 0.0)
        image, grid = self.embed_patches(patch_images)
        image_padding = torch.zeros(image.shape[:2], dtype=torch.bool, device=image.device)
        if patch_masks is not None:
            image_padding = image_padding | ~patch_masks.bool()[:, None]
        image = image.masked_fill(image_padding[..., None], 0.0)
        return EncoderInput(
            image, words, image_padding, text_padding,
            self.image_pos_ln(self.image_position_vectors(grid)),
            self.pos_ln(self.text_position_vectors(src_tokens.shape[1])),
            grid,
        )  # fmt: skip

    def embed_words(self, src_tokens: Tensor) -> Tensor:
        """[B, T] → [B, T, d]."""
        x: Tensor = self.embed_scale * self.embed_tokens(src_tokens)
        if self.config.entangle_position_embedding:
            x = x + self.text_position_vectors(src_tokens.shape[1])
        if self.type_embedding is not None:
            x = x + self.type_embedding.weight[0]
        return x if self.layernorm_embedding is None else self.layernorm_embedding(x)

    def embed_patches(self, patch_images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """[B, 3, H, W] → [B, P, d] and the patch grid (height, width)."""
        features = self.embed_images(patch_images)
        grid = (features.shape[2], features.shape[3])
        if max(grid) > self.config.image_bucket_size:
            raise UsageError(
                f"an image of {patch_images.shape[2]}x{patch_images.shape[3]} pixels has "
                f"{grid[0]}x{grid[1]} patches; this model has positions for "
                f"{self.config.image_bucket_size} a side"
            )
        x: Tensor = self.embed_scale * self.image_proj(features.flatten(2).transpose(1, 2))
        if self.config.entangle_position_embedding:
            x = x + self.image_position_vectors(grid)
        if self.type_embedding is not None:
            x = x + self.type_embedding.weight[1]
        return (x if self.patch_layernorm_embedding is None else self.patch_layernorm_embedding(x)), grid

    def text_position_vectors(self, length: int) -> Tensor:
        """Before their norm: [T, d]."""
        pos.check_length(length, self.embed_positions, "source text")
        return self.embed_positions.weight[:length]

    def image_position_vectors(self, grid: tuple[int, int]) -> Tensor:
        """Before their norm: [P, d]."""
        c = self.config
        orig_side = c.orig_image_size // 16 if c.interpolate_position else None
        return pos.image_position_vectors(self.embed_image_positions, *grid, c.image_bucket_size, orig_side)

    def absolute_bias(self, positions: Tensor) -> Tensor:
        """[H, S, S] of normalised position vectors [S, d]; one for all layers."""
        c = self.config
        return pos.absolute_bias(
            positions, positions, self.pos_q_linear, self.pos_k_linear, c.encoder_heads, c.attn_scale_factor
        )

    def text_bias(self, text_positions: Tensor) -> BiasOfLayer:
        """Layer index → [H, T, T], absolute and relative."""
        absolute = self.absolute_bias(text_positions)
        length, size = len(text_positions), self.config.token_bucket_size
        buckets = pos.token_buckets(length, size, text_positions.device)
        return lambda i: absolute + pos.relative_bias(self._table(self.token_rel_pos_table_list, i), buckets)

    def image_bias(self, image_positions: Tensor, grid: tuple[int, int], relative: bool) -> BiasOfLayer:
        """Layer index → [H, P, P]; MuE checkpoints of the authors know no relative part."""
        absolute = self.absolute_bias(image_positions)
        if not relative:
            return lambda i: absolute
        buckets = pos.image_buckets(*grid, self.config.image_bucket_size, image_positions.device)
        return lambda i: absolute + pos.relative_bias(self._table(self.image_rel_pos_table_list, i), buckets)

    def joint_bias(self, embedded: EncoderInput) -> BiasOfLayer:
        """Layer index → [H, S, S]: absolute over all pairs, relative within each modality."""
        absolute = self.absolute_bias(torch.cat([embedded.image_positions, embedded.text_positions]))
        patches, words = len(embedded.image_positions), len(embedded.text_positions)
        device, c = absolute.device, self.config
        image_buckets = pos.image_buckets(*embedded.grid, c.image_bucket_size, device)
        token_buckets = pos.token_buckets(words, c.token_bucket_size, device)

        def bias(i: int) -> Tensor:
            image = pos.relative_bias(self._table(self.image_rel_pos_table_list, i), image_buckets)
            text = pos.relative_bias(self._table(self.token_rel_pos_table_list, i), token_buckets)
            upper = nn.functional.pad(image, (0, words))
            lower = nn.functional.pad(text, (patches, 0))
            return absolute + torch.cat([upper, lower], 1)

        return bias

    @staticmethod
    def _table(list_of_tables: nn.ModuleList, i: int) -> nn.Embedding:
        table = list_of_tables[i]
        assert isinstance(table, nn.Embedding)
        return table

    def forward_joint(
        self, src_tokens: Tensor, patch_images: Tensor, patch_masks: Tensor | None = None,
        *, depth: int | None = None, policy: ExitPolicy | None = None, options: MueOptions = MUE,
    ) -> EncoderOutput:  # fmt: skip
        """OFA's encoder: one pass over [image ; text], up to `depth` layers (default all).

        A policy's stack "encoder" may end it earlier, in eval mode.
        """
        e = self.embed(src_tokens, patch_images, patch_masks)
        padding = torch.cat([e.image_padding, e.text_padding], 1)
        x = torch.cat([e.image, e.text], 1)
        run = self._run(
            "encoder", x, self.joint_bias(e), padding[:, None, None], padding, depth, policy, options
        )
        states = [run.state(i) for i in range(len(self.layers) + 1)]
        return self._output(e, states, {"encoder": run})

    def forward_decomposed(
        self, src_tokens: Tensor, patch_images: Tensor, patch_masks: Tensor | None = None,
        *, image_depth: int | None = None, text_depth: int | None = None,
        policy: ExitPolicy | None = None, options: MueOptions = MUE,
    ) -> EncoderOutput:  # fmt: skip
        """MuE's encoder: words and patches apart, each up to its depth (default all layers).

        A policy's stacks "text" and "image" may end them earlier, in eval mode.
        """
        e = self.embed(src_tokens, patch_images, patch_masks)
        text = self._run(
            "text", e.text, self.text_bias(e.text_positions), e.text_padding[:, None, None],
            e.text_padding, text_depth, policy, options,
        )  # fmt: skip
        # No mask among patches: an image is there or not as a whole, and the decoder hides a missing one.
        image = self._run(
            "image", e.image, self.image_bias(e.image_positions, e.grid, self.config.image_relative_bias),
            None, e.image_padding, image_depth, policy, options,
        )  # fmt: skip
        states: list[Tensor] = []
        for i in range(len(self.layers) + 1):
            ran = i < max(len(image.states), len(text.states))
            states.append(torch.cat([image.state(i), text.state(i)], 1) if ran else states[-1])
        return self._output(e, states, {"image": image, "text": text})

    def _run(
        self, stack: str, x: Tensor, bias: BiasOfLayer, mask: Tensor | None, padding: Tensor,
        depth: int | None, policy: ExitPolicy | None, options: MueOptions,
    ) -> StackRun:  # fmt: skip
        layers = first_layers(self.layers, depth)
        if self.training:
            return run_layers(layers, x, bias, mask)

        def threshold(layers_run: int) -> float:
            return math.inf if policy is None else policy.threshold(stack, layers_run)

        return run_with_exits(layers, x, bias, mask, padding, threshold, options)

    def _output(self, e: EncoderInput, states: list[Tensor], runs: dict[str, StackRun]) -> EncoderOutput:
        positions = torch.cat([e.image_positions, e.text_positions])
        return EncoderOutput(
            self.layer_norm(states[-1]),
            tuple(states),
            torch.cat([e.image_padding, e.text_padding], 1),
            positions.expand(len(e.text), *positions.shape),
            {} if self.training else {name: run.scores for name, run in runs.items()},
            {name: run.exits for name, run in runs.items()},
        )
