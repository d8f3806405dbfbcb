"""Core ML: every segment converts and keeps its signature. Nothing runs: that takes Apple's system."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

ct = pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.models.cut import Piece  # noqa: E402
from tests.contract.adapters import Ports, signature, structures  # noqa: E402
from tests.contract.cuts import CASES, make_case  # noqa: E402


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The converter talks a lot."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(before)


def converted(piece: Piece) -> Any:
    """The ML program, in float32, of one segment. Ids are int32: Core ML has no int64 tensors."""
    with torch.no_grad():
        program = torch.export.export(piece.module.eval(), tuple(piece.inputs.values()))
        program = program.run_decompositions({})
    dtypes = {port: np.float32 if x.is_floating_point() else np.int32 for port, x in piece.inputs.items()}
    return ct.convert(
        program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17,
        inputs=[ct.TensorType(k, tuple(x.shape), dtype=dtypes[k]) for k, x in piece.inputs.items()],
        outputs=[ct.TensorType(port) for port in piece.outputs],
        compute_precision=ct.precision.FLOAT32, skip_model_load=True,
    )  # fmt: skip


def ports(features: Any) -> dict[str, tuple[int, ...]]:
    return {f.name: tuple(f.type.multiArrayType.shape) for f in features}


def test_segments_convert_with_their_signature() -> None:
    kinds = ct.proto.FeatureTypes_pb2.ArrayFeatureType
    for name, (_, piece) in structures([make_case(case) for case in CASES]).items():
        spec = converted(piece).get_spec().description
        assert Ports(ports(spec.input), ports(spec.output)) == signature(piece), name
        for feature in (*spec.input, *spec.output):
            whole = feature.name in ("ids", "top_ids")
            kind = feature.type.multiArrayType.dataType
            assert kind == (kinds.INT32 if whole else kinds.FLOAT32), f"{name}.{feature.name}"
