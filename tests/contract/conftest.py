"""One thread, and the ONNX segments of every case, made once for all runtimes that read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mue_edge.models import heads
from mue_edge.models.weights import stored_weights
from tests.contract.cuts import CASES, PROMPT, Case, make_case

torch.set_num_threads(1)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each of the three cuts."""
    return make_case(request.param)


@pytest.fixture(scope="session")
def onnx_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Case → folder with `segments/NAME.onnx`: whole bundles, but for the text branch, which no
    target's adapter feeds yet."""
    pytest.importorskip("onnx", reason="ONNX export needs onnx and onnxscript")
    pytest.importorskip("onnxscript", reason="ONNX export needs onnx and onnxscript")
    pytest.importorskip("onnxruntime", reason="bundles are verified with onnxruntime")
    from mue_edge.export.build import export
    from mue_edge.export.onnx import format as onnx

    root = tmp_path_factory.mktemp("contract")
    folders, exporter = {}, onnx.Exporter()
    patch = pytest.MonkeyPatch()
    patch.setattr(onnx, "Exporter", lambda: exporter)  # what two cases share is traced once
    for name in CASES:
        made = make_case(name)
        folders[name] = root / name
        if made.request.prompt is None:
            onnx.write_segments([(p, exporter.graph(p)) for p in made.cut.pieces], folders[name])
            continue
        export(model_folder(made, root / f"{name}-model"), folders[name], "host", plan_of(made))
    patch.undo()
    return folders


def plan_of(made: Case) -> dict[str, Any]:
    """The case's cut as options of export."""
    s = made.settings
    return {
        "ends": {stack: list(ends) for stack, ends in made.request.ends.items()},
        "beam": s.beam,
        "max_length": s.max_length,
        "min_length": s.min_length,
        "fill_rows": made.request.fill_rows,
    }


def model_folder(made: Case, folder: Path) -> Path:
    folder.mkdir()
    weights = {k: v.contiguous().clone() for k, v in stored_weights(made.model).items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(made.model.config.to_json()))
    if made.model.heads:
        heads.write(folder, made.model.heads)
    prompts = {"caption": {"text": "what is it?", "ids": list(PROMPT)}}
    (folder / "prompts.json").write_text(json.dumps(prompts))
    return folder
