"""Segments with their weights as ONNX Runtime reorders and packs them, in files that processes map together.

A session packs weights into memory of its own, which is half of the memory of a worker. ONNX Runtime can write what it
packed beside the optimised graph, and maps that; the files fit this machine and this version only.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from mue_edge.errors import EnvironmentLacksError

GRAPH, _WEIGHTS = "segment.onnx", "packed.bin"
_SMALLEST = "1024"  # bytes of a weight that is mapped


def packed_segment(ort: Any, segment: str, options: Any, place: Path) -> str:
    """The path of a segment's packed form, which is made at `place` if no process has; several may at once.

    options: of its session; they are used up. Raises EnvironmentLacksError if it cannot be made.
    """
    if not place.is_dir():
        try:
            made = Path(tempfile.mkdtemp(dir=place.parent))
            options.optimized_model_filepath = str(made / GRAPH)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_min_size_in_bytes", _SMALLEST
            )
            options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
            ort.InferenceSession(segment, options, providers=["CPUExecutionProvider"])
            with contextlib.suppress(OSError):  # another process was faster
                made.rename(place)
        except Exception as problem:  # ONNX Runtime's own exceptions share no base class
            raise EnvironmentLacksError(f"{segment} cannot be packed into {place.parent}: {problem}") from problem
    return str(place / GRAPH)
