"""What is measured: exports of the bundled model and of random ones, in the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from proofs.covered import EXECUTORCH, MODEL
from proofs.record import ROOT, covers

BUNDLES = ROOT / ".cache" / "bundles"


def bundle(beam: int) -> Path:
    """The bundled model, exported for a beam, in the cache; made again when its evidence is stale."""
    from mue_edge.apps.stickers import model_folder
    from mue_edge.export.build import export

    out = BUNDLES / f"stickers-beam{beam}"
    export(model_folder(), out, "host", {"beam": beam}, name="stickers")
    return out


def lowered(target: str, precision: str = "fp32") -> Path:
    """The bundled model for a target of ExecuTorch's, in the cache. Lowering takes minutes."""
    from mue_edge.apps.stickers import model_folder

    options = ("--target", target, "--precision", precision)
    make = lambda out: cli("export", str(model_folder()), *options, "--out", str(out))
    return kept(f"stickers-{target}-{precision}", (*EXECUTORCH, *MODEL), make)


def kept(name: str, covered: tuple[str, ...], make: Callable[[Path], object]) -> Path:
    """What `make` writes, in the cache; taken again while the files that it covers are the same."""
    out, made_by = BUNDLES / name, covers(covered)
    stamp = out.with_suffix(".json")
    if not (out.is_dir() and stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == made_by):
        make(out)
        stamp.write_text(json.dumps(made_by), encoding="utf-8")
    return out


def ofa_base() -> Path:
    """A random model of OFA-base's shape, made once."""
    model = BUNDLES / "ofa-base"
    if not (model / "config.json").is_file():
        cli("import", "--random", "ofa-base", "--mue", "--out", str(model))
    return model


def cli(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "mue_edge", *words], cwd=ROOT, check=True)
