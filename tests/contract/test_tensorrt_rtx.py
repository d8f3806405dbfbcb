"""TensorRT-RTX: every segment's ONNX is parsed and built ahead of time. A proxy: no GPU, nothing runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install 'mue-edge[rtx]'")

from tests.contract.adapters import Ports, signature, structures
from tests.contract.cuts import CASES, make_case


def test_segments_build_with_their_signature(onnx_folders: dict[str, Path]) -> None:
    pieces = structures([make_case(case) for case in CASES])
    files = {
        name: str(onnx_folders[case.name] / "segments" / f"{piece.name}.onnx")
        for name, (case, piece) in pieces.items()
    }
    script = Path(__file__).with_name("rtx_build.py")
    ran = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(files), capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    assert found.keys() == pieces.keys()
    for name, result in found.items():
        assert "error" not in result, f"{name}: {result['error']}"
        inputs = {port: tuple(shape) for port, shape in result["inputs"].items()}
        outputs = {port: tuple(shape) for port, shape in result["outputs"].items()}
        assert Ports(inputs, outputs) == signature(pieces[name][1]), name
        assert result["bytes"] > 0
        assert set(result["scores"].values()) <= {"DataType.FLOAT"}, name
