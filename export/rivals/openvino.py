"""OpenVINO on the whole graphs, in float32; the decoder keeps its keys and values itself, as Optimum Intel's do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mue_edge.arrays import Floats
from mue_edge.export.rivals.job import RivalJob
from mue_edge.models.family import PARTS


class OpenVinoRival:
    def __init__(self, job: RivalJob) -> None:
        import openvino as ov
        from openvino._offline_transformations import apply_make_stateful_transformation

        core, hints = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job.threads}
        hints |= {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        self.settings = "INFERENCE_PRECISION_HINT f32, PERFORMANCE_HINT LATENCY, one stream, keys and values as state"
        graphs = [core.read_model(job.graph(name)) for name in PARTS]
        if job.precision == "int8":  # ONNX Runtime's int8 graphs run more slowly here than float ones
            import nncf

            self.settings += ", weights in int8 by NNCF"
            graphs = [nncf.compress_weights(graph) for graph in graphs]
        _, encoder, decoder = graphs
        past = [port.any_name for port in decoder.inputs if port.any_name.startswith("past_")]
        apply_make_stateful_transformation(decoder, {name: name.replace("past_", "present_") for name in past})
        requests = (core.compile_model(graph, "CPU", hints).create_infer_request() for graph in graphs)
        self._stem, self._encoder, self._decoder = requests
        self._parents = job.search.beam > 1
        for port in encoder.outputs:  # of fixed size: the decoder reads them where they are
            self._decoder.set_tensor(port.any_name, self._encoder.get_tensor(port.any_name))

    def stem(self, pixels: Floats) -> object:
        return self._stem.infer({"pixels": pixels}, share_inputs=True)

    def encode(self, pixels: Floats) -> None:
        self._encoder.infer({"pixels": pixels}, share_inputs=True, share_outputs=True)
        self._decoder.reset_state()

    def step(self, ids: Sequence[int], parents: Sequence[int]) -> Floats:
        fed = {"ids": np.array(ids)} | ({"parents": np.array(parents)} if self._parents else {})
        self._decoder.infer(fed, share_outputs=True)
        logits: Floats = self._decoder.get_tensor("logits").data.copy()
        return logits


RIVAL = OpenVinoRival
