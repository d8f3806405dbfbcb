"""Embedded Linux: ExecuTorch's own Python runtime."""

from mue_edge.targets.executorch.python import open_runtime

__all__ = ["open_runtime"]
