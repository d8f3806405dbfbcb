"""The long proofs, a file each: `loop_beam1.py` is `loop-beam1`, its record `evidence/loop-beam1.json`.

`measure()` gives the figures, as JSON can hold them. `render(record)` gives the Markdown of the block of that
name on a page, `render_PART(record)` that of NAME-PART; both are no part of what is measured. Heavy libraries
are imported inside `measure`, since pages are rendered without them. A proof may also have

- QUIET = True: it measures time, so the machine should do nothing else;
- BY_NAME = "why": it is measured only when it is named;
- DATA: files that it depends on and that other programs than Python read, as paths or patterns from the root.

Measuring may be stopped: what is dear is kept in `.cache/` and taken from there by the next run.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType


def names() -> tuple[str, ...]:
    """Of all proofs."""
    files = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(stem.replace("_", "-") for stem in files if stem != "__init__"))


def load(name: str) -> ModuleType:
    """A proof's module."""
    return importlib.import_module(f"proofs.{name.replace('-', '_')}")
