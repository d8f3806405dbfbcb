"""OFA's decoder: causal self-attention with position biases, cross-attention to the encoder, tied projection.

The decoder's parts that write images as codes are left out. Shapes: B rows, L words, S encoder
positions, H heads, d = decoder_dim, V words in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.network import layers
from mue_edge.models.ofa.network import positions as pos
from mue_edge.models.ofa.network.layers import DecoderLayer
from mue_edge.models.ofa.network.outputs import EncoderOutput

# Called after each layer with (layers run so far, states before it, states after it).
StopTest = Callable[[int, Tensor, Tensor], bool]


class Decoder(nn.Module):
    """Embeddings, position biases, layers and projection; parameter names are fairseq's."""

    def __init__(self, config: OFAConfig, encoder_tokens: nn.Embedding) -> None:
        super().__init__()
        c, dim = config, config.decoder_dim
        self.config = config
        self.embed_scale = 1.0 if c.no_scale_embedding else dim**0.5
        # In a tuple, so that a shared table is a parameter of the encoder only.
        self._shared_tokens = (encoder_tokens,)
        self.embed_tokens = None if c.share_all_embeddings else layers.embedding(c.vocab_size, dim)
        tied = c.share_all_embeddings or c.share_decoder_input_output_embed
        self.output_projection = None if tied else nn.Linear(dim, c.vocab_size, bias=False)
        if self.output_projection is not None:
            nn.init.normal_(self.output_projection.weight, std=dim**-0.5)
        self.layernorm_embedding = layers.optional_norm(dim, c.layernorm_embedding)
        self.embed_positions = layers.embedding(c.max_target_positions + 2, dim)
        self.pos_ln = nn.LayerNorm(dim)
        self.self_pos_q_linear = layers.linear(dim, dim)
        self.self_pos_k_linear = layers.linear(dim, dim)
        self.cross_pos_q_linear = layers.linear(dim, dim)
        self.cross_pos_k_linear = layers.linear(c.encoder_dim, dim)
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c.decoder_layers))
        self.layer_norm = nn.LayerNorm(dim)
        rows = pos.token_table_rows(c.token_bucket_size)
        self.token_rel_pos_table_list = layers.relative_tables(c.decoder_layers, rows, c.decoder_heads)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The input table [V, d], the encoder's where they share one."""
        return self._shared_tokens[0] if self.embed_tokens is None else self.embed_tokens

    @property
    def projection_weight(self) -> Tensor:
        """[V, d]."""
        projection = self.output_projection
        return self.token_embedding.weight if projection is None else projection.weight

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Words [B, L] at positions start, start + 1, … → [B, L, d]."""
        x: Tensor = self.embed_scale * self.token_embedding(tokens)
        if not self.config.disable_entangle:
            x = x + self.embed_positions.weight[start : start + tokens.shape[1]]
        return layers.normed(self.layernorm_embedding, x)

    def position_vectors(self, length: int) -> Tensor:
        """Normalised position vectors [L, d]."""
        pos.check_length(length, self.embed_positions, "target text")
        vectors: Tensor = self.pos_ln(self.embed_positions.weight[:length])
        return vectors

    def self_biases(self, length: int) -> list[Tensor]:
        """Each layer's self-attention bias [H, L, L], causal mask not included."""
        vectors = self.position_vectors(length)
        absolute = self._absolute_bias(vectors, vectors, self.self_pos_q_linear, self.self_pos_k_linear)
        buckets = pos.token_buckets(length, self.config.token_bucket_size, vectors.device)
        return [absolute + pos.relative_bias(table, buckets) for table in self.token_rel_pos_table_list]

    def cross_bias(self, length: int, encoder_positions: Tensor) -> Tensor:
        """All layers' cross-attention bias [H, L, S]; `encoder_positions` [B, S, d] are equal over B."""
        words = self.position_vectors(length)
        return self._absolute_bias(words, encoder_positions[0], self.cross_pos_q_linear, self.cross_pos_k_linear)

    def _absolute_bias(self, queries: Tensor, keys: Tensor, q_linear: nn.Linear, k_linear: nn.Linear) -> Tensor:
        heads = self.config.decoder_heads
        q, k = pos.projected(queries, q_linear, heads), pos.projected(keys, k_linear, heads)
        return pos.absolute_bias(q, k, self.config.attn_scale_factor)

    def layer(self, i: int) -> DecoderLayer:
        module = self.layers[i]
        assert isinstance(module, DecoderLayer)
        return module

    def hidden_states(
        self, prev_output_tokens: Tensor, encoder_output: EncoderOutput, stop: StopTest | None = None
    ) -> list[Tensor]:
        """States [B, L, d] of the whole prefix after 0 (the embeddings), 1, … layers.

        Right padding is allowed. `stop` ends the run after a layer; the last state is then that layer's.
        The encoder output may hold one sample for all B rows.
        """
        length = prev_output_tokens.shape[1]
        device = prev_output_tokens.device
        x = self.embed(prev_output_tokens)
        biases, cross_bias = self.self_biases(length), self.cross_bias(length, encoder_output.positions)
        causal = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
        hidden_keys = causal | prev_output_tokens.eq(self.config.pad)[:, None, None]
        cross_mask = encoder_output.padding_mask[:, None, None]
        states = [x]
        for i in range(len(self.layers)):
            layer = self.layer(i)
            cross = layer.encoder_attn.keys_values(encoder_output.hidden)
            y, _ = layer(x, None, biases[i], hidden_keys, cross, cross_bias, cross_mask)
            states.append(y)
            if stop is not None and stop(i + 1, x, y):
                break
            x = y
        return states

    def project(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits [B, L, V] of a layer's states [B, L, d]: final norm and tied projection."""
        return nn.functional.linear(self.layer_norm(hidden), self.projection_weight)
