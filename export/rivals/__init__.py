"""What users would run instead of a bundle: the model whole, by another runtime, in a process of its own.

A rival is a module of this room with a `RIVAL`, and a line of RIVALS."""

from __future__ import annotations

from importlib.util import find_spec

from mue_edge.errors import missing_extra

# Rival → the packages that it needs.
RIVALS = {"onnxruntime": ("onnxruntime",), "openvino": ("openvino", "nncf"), "torch": ("torch",)}


def check_installed(names: tuple[str, ...]) -> None:
    """Raises EnvironmentLacksError for a rival whose packages are not here."""
    for package in (package for name in names for package in RIVALS[name]):
        if find_spec(package) is None:
            raise missing_extra(package, "rivals")
