"""What is measured: exports of the bundled model and of random ones, in the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from proving import ROOT
from proving.reading import changed, digests, note, noted

BUNDLES = ROOT / ".cache" / "bundles"


def bundle(beam: int, precision: str = "fp32") -> Path:
    """The bundled model, exported for a beam, in the cache."""
    from mue_edge.apps.stickers import model_folder
    from mue_edge.export.build import export

    out = BUNDLES / f"stickers-beam{beam}{'' if precision == 'fp32' else f'-{precision}'}"
    export(model_folder(), out, "host", {"beam": beam, "precision": precision}, name="stickers")
    return out


def lowered(target: str, precision: str = "fp32") -> Path:
    """The bundled model for a target of ExecuTorch's, in the cache. Lowering takes minutes."""
    from mue_edge.apps.stickers import model_folder

    options = ("--target", target, "--precision", precision)
    make = lambda out: cli("export", str(model_folder()), *options, "--out", str(out))
    return kept(f"stickers-{target}-{precision}", make)


def random_model(size: str) -> Path:
    """A random model of a size's shape, in the cache."""
    return kept(size, lambda out: cli("import", "--random", size, "--mue", "--out", str(out)))


def kept(name: str, make: Callable[[Path], object]) -> Path:
    """What `make` writes, in the cache; taken again while all that the proof read until then is the same."""
    out = BUNDLES / name
    stamp = out.with_suffix(".json")
    covers: dict[str, str] = json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else {}
    if not (out.is_dir() and covers) or changed(covers):
        make(out)
        covers = digests(noted())
        stamp.write_text(json.dumps(covers), encoding="utf-8")
    note(covers)
    return out


def cli(*words: str) -> None:
    """Run `mue-edge`."""
    subprocess.run([sys.executable, "-m", "mue_edge", *words], cwd=ROOT, check=True)
