"""Android: on a phone ExecuTorch's Java library, elsewhere its Python runtime on the same program."""

from __future__ import annotations

import sys

from mue_edge.bundle.folder import Bundle
from mue_edge.targets.executorch.methods import MethodsRuntime, program_file


def open_runtime(bundle: Bundle, threads: int | None = None) -> MethodsRuntime:
    if hasattr(sys, "getandroidapilevel"):
        from mue_edge.targets.executorch import java as executorch_java

        module = executorch_java.Module(program_file(bundle), bundle.manifest.segments, threads)
        return MethodsRuntime(bundle, module)
    from mue_edge.targets.executorch import python as executorch

    return executorch.open_runtime(bundle, threads)
