"""Decoding one word at a time, and what deeper layers remember of words that exited early.

Four ways exist (`KV_MODES`); a skipped layer's keys and values for a word are, in
    propagate    its own projections of the state with which the word exited (CALM, Schuster et al. 2022);
    published    missing, as in the authors' code: such a layer sees fewer words, and their position
                 biases are those of later positions;
    copy_clone   with all of its past and its cross-attention replaced by the exit layer's;
    full_prefix  never needed: every step runs the whole prefix again.
Shapes: R rows, t words so far, H heads, S encoder positions.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from mue_edge.models.ofa.network.decoder import Decoder, StopTest
from mue_edge.models.ofa.network.layers import KeysValues
from mue_edge.models.ofa.network.outputs import EncoderOutput

KvMode = Literal["propagate", "published", "copy_clone", "full_prefix"]
KV_MODES: tuple[KvMode, ...] = get_args(KvMode)


class DecoderCache:
    """The live rows of one or more samples; `samples` (int64 [R]) says which sample a row belongs to.

    Tensors are never written in place, so that layers which share one still hold separate copies.
    """

    def __init__(self, decoder: Decoder, encoder_output: EncoderOutput, limit: int, kv: KvMode) -> None:
        """Rows start as one a sample, at the first of at most `limit` words."""
        self.decoder, self.encoder_output, self.kv = decoder, encoder_output, kv
        layers = len(decoder.layers)
        self.samples = torch.arange(len(encoder_output.hidden), device=encoder_output.hidden.device)
        self.prefix = self.samples.new_empty(len(self.samples), 0)
        self._self: list[KeysValues | None] = [None] * layers
        self._cross: list[KeysValues | None] = [None] * layers
        if kv != "full_prefix":
            self._self_biases = decoder.self_biases(limit)
            self._cross_bias = decoder.cross_bias(limit, encoder_output.positions)

    def select(self, rows: Tensor) -> None:
        """Keep the rows `rows` (int64 [R']), in that order; a row may be taken several times."""
        self.samples, self.prefix = self.samples[rows], self.prefix[rows]
        self._self = [None if kv is None else (kv[0][rows], kv[1][rows]) for kv in self._self]

    def lengths(self) -> list[int]:
        """How many words each layer's self-attention cache holds."""
        return [0 if kv is None else kv[0].shape[2] for kv in self._self]

    def step(self, tokens: Tensor, stop: StopTest) -> Tensor:
        """Take the rows' next words [R]; returns the states [R, 1, d] after the layer at which `stop` ends
        the step, or after the last one."""
        self.prefix = torch.cat([self.prefix, tokens[:, None]], 1)
        if self.kv == "full_prefix":
            one = len(self.encoder_output.hidden) == 1
            of_rows = self.encoder_output if one else self.encoder_output.rows(self.samples)
            return self.decoder.hidden_states(self.prefix, of_rows, stop)[-1][:, -1:]
        position = self.prefix.shape[1] - 1
        x = self.decoder.embed(tokens[:, None], start=position)
        cross_bias = self._cross_bias[:, position : position + 1]
        hidden = self._of_rows(self.encoder_output.padding_mask)[:, None, None]
        for i, length in enumerate(self.lengths()):
            self_bias = self._self_biases[i][:, position : position + 1, position - length : position + 1]
            keys, values = self._cross_of(i)
            cross = self._of_rows(keys), self._of_rows(values)
            layer, before = self.decoder.layer(i), x
            x, self._self[i] = layer(before, self._self[i], self_bias, None, cross, cross_bias, hidden)
            if stop(i + 1, before, x):
                self._fill(i, x)
                break
        return x

    def _of_rows(self, by_sample: Tensor) -> Tensor:
        # One sample's tensors broadcast over its rows.
        return by_sample if len(by_sample) == 1 else by_sample[self.samples]

    def _cross_of(self, i: int) -> KeysValues:
        """Layer i's cross-attention keys and values by sample, computed when first needed."""
        cross = self._cross[i]
        if cross is None:
            attention = self.decoder.layer(i).encoder_attn
            cross = self._cross[i] = attention.keys_values(self.encoder_output.hidden)
        return cross

    def _fill(self, exit_layer: int, x: Tensor) -> None:
        """The layers after `exit_layer`, the last that ran, keep the word that exited with the state x."""
        for j in range(exit_layer + 1, len(self.decoder.layers)):
            if self.kv == "copy_clone":
                self._self[j], self._cross[j] = self._self[exit_layer], self._cross_of(exit_layer)
            elif self.kv == "propagate":
                self._self[j] = self.decoder.layer(j).self_keys_values(x, self._self[j])
