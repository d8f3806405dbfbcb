"""int8 segments in onnxruntime-web's WASM, as a page runs them, under node: are their sums exact?"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from proving import ROOT
from proving.int8_exact import bundle_of
from proving.rendering import Record

SCRIPT = "tools/proving/int8_wasm.mjs"
DATA = (SCRIPT,)


def measure() -> dict[str, Any]:
    """The error of each segment that `verify` looks at, as a multiple of that by exact sums."""
    import numpy as np
    import onnx

    from mue_edge.apps.stickers import model_folder
    from mue_edge.apps.web import npm
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.targets import golden
    from mue_edge.targets.tensors import Constants

    opened = open_bundle(bundle_of("stickers", model_folder(), "int8"))
    manifest, constants = opened.manifest, Constants(opened)
    kept = golden.read_sums(opened)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with tarfile.open(npm.tarball(npm.ONNXRUNTIME)) as archive:
            for name in npm.ONNXRUNTIME.files:
                file = archive.extractfile(name)
                assert file is not None
                (folder / Path(name).name).write_bytes(file.read())
        asked: dict[str, Any] = {}
        for sums in kept:
            model = onnx.load(str(opened.path / manifest.segments[sums.segment].file))
            (folder / f"{sums.segment}.onnx").write_bytes(model.SerializeToString())
            buffers = manifest.layout.constants()[sums.segment].items()
            fed = {k: constants[name.partition(":")[2]] for k, name in buffers} | dict(sums.inputs)
            shown = {k: {"shape": x.shape, "data": x.ravel().tolist()} for k, x in fed.items()}
            asked[sums.segment] = {"port": sums.port, "fed": shown}
        (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        subprocess.run(["node", str(ROOT / SCRIPT), str(folder)], check=True)
        answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return {
        "runtime": f"{npm.ONNXRUNTIME.name} {npm.ONNXRUNTIME.version} (WASM)",
        "errors": {
            s.segment: golden.rms(np.asarray(answers[s.segment]).reshape(s.wanted.shape), s.wanted) / s.error
            for s in kept
        },
    }


def render(record: Record) -> str:
    """What a page's runtime does."""
    errors = ", ".join(f"`{name}` {times:.3f}" for name, times in record["figures"]["errors"].items())
    return f"{record['figures']['runtime']} in node, errors as multiples of those by exact sums: {errors}.\n"
