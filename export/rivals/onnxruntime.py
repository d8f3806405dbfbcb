"""ONNX Runtime on the whole graphs, as an export in Optimum's style runs: an encoder, and a decoder whose cached
keys and values come in and go out grown by a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mue_edge.arrays import Floats
from mue_edge.export.rivals.job import RivalJob
from mue_edge.models.family import PARTS


class OnnxRuntimeRival:
    def __init__(self, job: RivalJob) -> None:
        import onnxruntime as ort

        # Arrays in and out were faster than bound values, and packed weights than mapped ones.
        self.settings = "all graph optimisations, weights packed, no spinning, arrays in and out"
        self.settings += ", dynamic int8" * (job.precision == "int8")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._stem, self._encoder, self._decoder = (
            ort.InferenceSession(job.graph(name, job.precision), options, providers=["CPUExecutionProvider"])
            for name in PARTS
        )
        self._encoded = [port.name for port in self._encoder.get_outputs()]
        ports = self._decoder.get_inputs()
        self._parents = any(port.name == "parents" for port in ports)
        self._empty = {p.name: _no_words(p.shape) for p in ports if p.name.startswith("past_")}
        self._feeds: dict[str, Any] = {}

    def stem(self, pixels: Floats) -> object:
        return self._stem.run(None, {"pixels": pixels})

    def encode(self, pixels: Floats) -> None:
        encoded = self._encoder.run(None, {"pixels": pixels})
        self._feeds = dict(zip(self._encoded, encoded)) | self._empty

    def step(self, ids: Sequence[int], parents: Sequence[int]) -> Floats:
        self._feeds["ids"] = np.array(ids)
        if self._parents:
            self._feeds["parents"] = np.array(parents)
        logits, *present = self._decoder.run(None, self._feeds)
        self._feeds.update(zip(self._empty, present))
        own: Floats = logits
        return own


def _no_words(shape: Sequence[Any]) -> Floats:
    rows, heads, _, width = shape
    return np.zeros((rows, heads, 0, width), np.float32)


RIVAL = OnnxRuntimeRival
