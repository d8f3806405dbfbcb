"""The files that a figure depends on, by what is measured: a change of one makes the evidence stale.

Jobs add their own to these.
"""

from __future__ import annotations

CORE = tuple(
    f"mue_edge/{name}.py"
    for name in ("loop", "exit_tests", "protocol", "policy", "search", "cache", "signals")
)
SEGMENTS = (
    "mue_edge/models/ofa/segments.py",
    "mue_edge/models/ofa/cut.py",
    "mue_edge/models/outputs.py",
    "export/onnx.py",
    "export/plan.py",
    "targets/host.py",
    "targets/buffers.py",
    "targets/tensors.py",
)
COREML = (
    *(f"export/{name}.py" for name in ("coreml", "island")),
    "tools/proving/loop.py",
    *(f"targets/{name}.py" for name in ("coreml", "methods")),
    *(
        f"targets/mil/{name}.py"
        for name in (
            "arguments", "arithmetic", "blob", "compressed", "evaluator", "layers", "program", "shapes",
        )
    ),
)  # fmt: skip
EXECUTORCH = (
    *(f"mue_edge/models/{name}.py" for name in ("ofa/segments", "ofa/cut", "outputs")),
    *(f"export/{name}.py" for name in ("executorch", "xnnpack", "linear_int8", "plan")),
    *(f"targets/{name}.py" for name in ("executorch", "methods", "buffers", "tensors")),
)
JETSON = (
    *(
        f"export/{name}.py"
        for name in ("tensorrt", "half", "qdq", "ranges", "lower", "gates", "rtx", "jetpack")
    ),
    "export/jetpack.toml",
    "export/tensorrt_operators.toml",
)
FILES = ("model.safetensors", "config.json", "prompts.json", "policies.json", "tokenizer.json")
MODEL = tuple(f"apps/stickers/model/{name}" for name in FILES)
