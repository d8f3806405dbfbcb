"""TensorRT-RTX: every segment's ONNX is parsed and built ahead of time. A proxy: no GPU, nothing runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install 'mue-edge[rtx]'")

from tests.contract.adapters import Ports, signature
from tests.contract.cuts import CASES, make_case


def test_segments_build_with_their_signature(onnx_folders: dict[str, Path]) -> None:
    wanted: dict[str, Ports] = {}
    files: dict[str, str] = {}
    for case in CASES:
        for piece in make_case(case).cut.pieces:
            ports = signature(piece)
            # The same graph with other weights says nothing new.
            if (piece.name.partition(".")[0], ports) not in [(k.split("/")[1], v) for k, v in wanted.items()]:
                name = f"{case}/{piece.name.partition('.')[0]}/{piece.name}"
                wanted[name] = ports
                files[name] = str(onnx_folders[case] / "segments" / f"{piece.name}.onnx")
    script = Path(__file__).with_name("rtx_build.py")
    ran = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(files), capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    assert found.keys() == wanted.keys()
    for name, result in found.items():
        assert "error" not in result, f"{name}: {result['error']}"
        inputs = {port: tuple(shape) for port, shape in result["inputs"].items()}
        outputs = {port: tuple(shape) for port, shape in result["outputs"].items()}
        assert Ports(inputs, outputs) == wanted[name], name
        assert result["bytes"] > 0
        assert set(result["scores"].values()) <= {"DataType.FLOAT"}, name
