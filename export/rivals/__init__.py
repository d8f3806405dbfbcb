"""What users would run instead of a bundle: the model whole, by another runtime, in a process of its own.

A rival is a module of this room, named as the package that it runs on, with an `Engine` (`decoding`)."""

from __future__ import annotations

from importlib.util import find_spec

from mue_edge.errors import missing_extra

RIVALS = ("onnxruntime", "openvino", "torch")


def check_installed(names: tuple[str, ...]) -> None:
    """Raises EnvironmentLacksError for a rival whose package is not here."""
    for name in names:
        if find_spec(name) is None:
            raise missing_extra(name, "rivals")
