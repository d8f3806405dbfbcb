"""The window systems that the app is driven on here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest


@pytest.fixture(params=["toga_qt", "toga_dummy"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    if name == "toga_qt":
        loads = subprocess.run([sys.executable, "-c", "import PySide6.QtWidgets"], capture_output=True, text=True)
        if loads.returncode:
            pytest.skip(f"Qt does not load here ({loads.stderr.strip().splitlines()[-1]}); docs/phone.md")
    return name
