"""The iphone target: Core ML where it is, our own evaluator of ML programs elsewhere."""

from __future__ import annotations

import logging

from mue_edge.bundle import Bundle
from mue_edge.targets.coreml import Evaluated
from mue_edge.targets.methods import MethodsRuntime

_told = False


def open_runtime(bundle: Bundle, threads: int | None = None) -> MethodsRuntime:
    """A bundle of ML packages on this machine."""
    return evaluated(bundle, threads)


def evaluated(bundle: Bundle, threads: int | None = None) -> MethodsRuntime:
    """Through the evaluator, in the declared precision. It says once that this is slow."""
    global _told
    methods = Evaluated(bundle.path, bundle.manifest.segments, bundle=bundle)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if not _told:
        _told = True
        logging.getLogger("mue_edge").warning(
            "no Core ML on this machine: mue-edge's own evaluator runs the ML programs, slowly; it shows "
            "what they answer, not how fast a phone is"
        )
    return MethodsRuntime(bundle, methods)
