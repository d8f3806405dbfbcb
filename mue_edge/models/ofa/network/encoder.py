"""OFA's encoder: image patches and words in one sequence [image ; text], attended jointly or, in MuE, apart.

Decomposed, the same layers run once over the words and once over the patches, and neither ever
sees the other: each may exit after its own layer, and only the decoder brings them together.
Shapes: B samples, P patches, T words, S = P + T, H heads, d = encoder_dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.loop.policy import ExitPolicy
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.network import layers
from mue_edge.models.ofa.network import positions as pos
from mue_edge.models.ofa.network.exits import BiasOfLayer, MueOptions, options_for, run_layers, run_with_exits
from mue_edge.models.ofa.network.outputs import EncoderOutput
from mue_edge.models.ofa.network.trunk import Trunk


class Encoder(nn.Module):
    """Trunk, embeddings, position biases and layers; parameter names are fairseq's."""

    def __init__(self, config: OFAConfig) -> None:
        super().__init__()
        c, dim, heads = config, config.encoder_dim, config.encoder_heads
        self.config = config
        self.embed_scale = 1.0 if c.no_scale_embedding else dim**0.5
        self.embed_tokens = layers.embedding(c.vocab_size, dim)
        self.layernorm_embedding = layers.optional_norm(dim, c.layernorm_embedding)
        self.type_embedding = layers.embedding(2, dim) if c.type_embedding else None
        self.embed_images = Trunk(c.trunk_blocks, c.trunk_width)
        self.image_proj = layers.linear(c.trunk_channels, dim)
        self.patch_layernorm_embedding = layers.optional_norm(dim, c.patch_layernorm_embedding)
        self.embed_positions = layers.embedding(c.max_source_positions + 2, dim)
        self.embed_image_positions = layers.embedding(c.image_bucket_size**2 + 1, dim)
        self.pos_ln = nn.LayerNorm(dim)
        self.image_pos_ln = nn.LayerNorm(dim)
        self.pos_q_linear = layers.linear(dim, dim)
        self.pos_k_linear = layers.linear(dim, dim)
        self.layers = nn.ModuleList(layers.EncoderLayer(c) for _ in range(c.encoder_layers))
        self.layer_norm = nn.LayerNorm(dim)
        token_rows = pos.token_table_rows(c.token_bucket_size)
        image_rows = pos.image_table_rows(c.image_bucket_size)
        self.token_rel_pos_table_list = layers.relative_tables(c.encoder_layers, token_rows, heads)
        self.image_rel_pos_table_list = layers.relative_tables(c.encoder_layers, image_rows, heads)

    def embed_words(self, src_tokens: Tensor) -> Tensor:
        """[B, T] → [B, T, d]."""
        x: Tensor = self.embed_scale * self.embed_tokens(src_tokens)
        if self.config.entangle_position_embedding:
            x = x + self._text_position_vectors(src_tokens.shape[1])
        if self.type_embedding is not None:
            x = x + self.type_embedding.weight[0]
        return layers.normed(self.layernorm_embedding, x)

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
            x = x + self._image_position_vectors(grid)
        if self.type_embedding is not None:
            x = x + self.type_embedding.weight[1]
        return layers.normed(self.patch_layernorm_embedding, x), grid

    def text_positions(self, length: int) -> Tensor:
        """Normalised position vectors [T, d]."""
        vectors: Tensor = self.pos_ln(self._text_position_vectors(length))
        return vectors

    def image_positions(self, grid: tuple[int, int]) -> Tensor:
        """Normalised position vectors [P, d]."""
        vectors: Tensor = self.image_pos_ln(self._image_position_vectors(grid))
        return vectors

    def _text_position_vectors(self, length: int) -> Tensor:
        pos.check_length(length, self.embed_positions, "source text")
        return self.embed_positions.weight[:length]

    def _image_position_vectors(self, grid: tuple[int, int]) -> Tensor:
        c = self.config
        orig_side = c.orig_image_size // 16 if c.interpolate_position else None
        return pos.image_position_vectors(self.embed_image_positions, *grid, c.image_bucket_size, orig_side)

    def projected_positions(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys [H, S, w] of normalised position vectors [S, d]; queries are not scaled yet."""
        heads = self.config.encoder_heads
        queries = pos.projected(positions, self.pos_q_linear, heads)
        return queries, pos.projected(positions, self.pos_k_linear, heads)

    def absolute_bias(self, positions: Tensor) -> Tensor:
        """[H, S, S] of normalised position vectors [S, d]; one for all layers."""
        return pos.absolute_bias(*self.projected_positions(positions), self.config.attn_scale_factor)

    def text_bias(self, text_positions: Tensor) -> BiasOfLayer:
        """Layer index → [H, T, T], absolute and relative."""
        absolute, tables = self.absolute_bias(text_positions), self.token_rel_pos_table_list
        buckets = pos.token_buckets(len(absolute[0]), self.config.token_bucket_size, absolute.device)
        return lambda i: absolute + pos.relative_bias(tables[i], buckets)

    def image_bias(self, image_positions: Tensor, grid: tuple[int, int]) -> BiasOfLayer:
        """Layer index → [H, P, P]; MuE checkpoints of the authors know no relative part."""
        absolute, tables = self.absolute_bias(image_positions), self.image_rel_pos_table_list
        if not self.config.image_relative_bias:
            return lambda i: absolute
        buckets = pos.image_buckets(*grid, self.config.image_bucket_size, absolute.device)
        return lambda i: absolute + pos.relative_bias(tables[i], buckets)

    def joint_bias(self, image_positions: Tensor, text_positions: Tensor, grid: tuple[int, int]) -> BiasOfLayer:
        """Layer index → [H, S, S]: absolute over all pairs, relative within each modality."""
        absolute = self.absolute_bias(torch.cat([image_positions, text_positions]))
        patches, words, c = len(image_positions), len(text_positions), self.config
        image_buckets = pos.image_buckets(*grid, c.image_bucket_size, absolute.device)
        token_buckets = pos.token_buckets(words, c.token_bucket_size, absolute.device)

        def bias(i: int) -> Tensor:
            image = pos.relative_bias(self.image_rel_pos_table_list[i], image_buckets)
            text = pos.relative_bias(self.token_rel_pos_table_list[i], token_buckets)
            upper = nn.functional.pad(image, (0, words))
            lower = nn.functional.pad(text, (patches, 0))
            return absolute + torch.cat([upper, lower], 1)

        return bias

    def encode(
        self,
        src_tokens: Tensor,
        patch_images: Tensor,
        patch_masks: Tensor | None = None,
        *,
        decomposed: bool | None = None,
        depths: Mapping[str, int] | None = None,
        policy: ExitPolicy | None = None,
        options: MueOptions | None = None,
    ) -> EncoderOutput:
        """Words [B, T] and pixels [B, 3, H, W] through MuE's encoder, words and patches apart, or OFA's joint
        one, [image ; text]; by default the one that the configuration names. Right padding is allowed.

        patch_masks [B]: false = no image. depths: layers by stack ("image" and "text", or "encoder"; all
        where none is named), which run without exit tests, as all do in training mode; else a policy may end
        the stacks earlier. Where depths are given, one text [1, T] may belong to all pictures. options
        default to those of the policy's rule. Raises UsageError for a depth that is not there, and for a rule
        whose tests read what the torch model does not measure.
        """
        options = options_for(policy, options)
        image, grid = self.embed_patches(patch_images)
        samples = len(image)
        image_padding = torch.zeros(image.shape[:2], dtype=torch.bool, device=image.device)
        if patch_masks is not None:
            image_padding = image_padding | ~patch_masks.bool()[:, None]
        image = image.masked_fill(image_padding[..., None], 0.0)
        text_padding = src_tokens.eq(self.config.pad)
        text = self.embed_words(src_tokens).masked_fill(text_padding[..., None], 0.0)
        padding = torch.cat([image_padding, text_padding.expand(samples, -1)], 1)
        image_positions, text_positions = self.image_positions(grid), self.text_positions(text.shape[1])
        if self.config.decomposed if decomposed is None else decomposed:
            image_bias, text_bias = self.image_bias(image_positions, grid), self.text_bias(text_positions)
            # No mask among patches: an image is there or not as a whole, and the decoder hides a missing one.
            stacks = {
                "image": (image, image_bias, None, image_padding),
                "text": (text, text_bias, text_padding[:, None, None], text_padding),
            }
        else:
            bias = self.joint_bias(image_positions, text_positions, grid)
            stacks = {"encoder": (torch.cat([image, text], 1), bias, padding[:, None, None], padding)}
        runs = {}
        for stack, (x, bias, mask, pads) in stacks.items():
            if depths is not None or self.training:
                runs[stack] = run_layers(self.layers, x, bias, mask, (depths or {}).get(stack))
            else:
                threshold = None if policy is None else partial(policy.threshold, stack)
                runs[stack] = run_with_exits(self.layers, x, bias, mask, pads, threshold, options)
        states: list[Tensor] = []
        for i in range(len(self.layers) + 1):
            ran = i < max(len(run.states) for run in runs.values())
            by_stack = [run.state(i).expand(samples, -1, -1) for run in runs.values()]
            states.append(torch.cat(by_stack, 1) if ran else states[-1])
        return EncoderOutput(
            self.layer_norm(states[-1]),
            tuple(states),
            padding,
            torch.cat([image_positions, text_positions]).expand(samples, -1, -1),
            {name: run.scores for name, run in runs.items() if run.scores},
            {name: run.exits for name, run in runs.items()},
        )
