"""Commands run in this process; pictures and an exiting policy for the tiny bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apps.cli.run import Runner, picture


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three good pictures and a damaged one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        picture(folder / f"{i}.png", i)
    (folder / "1b-damaged.png").write_bytes((folder / "0.png").read_bytes()[:40])
    return folder


@pytest.fixture(scope="session")
def early(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy file under which the tiny bundle leaves about half of its exit tests."""
    import mue_edge
    from mue_edge.measuring.bench import exiting_policy
    from mue_edge.targets import golden

    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        shown, _ = golden.read(captioner.bundle)
        pixels = [golden.pixels(x, captioner.bundle.manifest.preprocess) for x in shown]
        policy, _ = exiting_policy(captioner, pixels)
    path = tmp_path_factory.mktemp("policies") / "early.json"
    path.write_text(json.dumps(policy.to_json()))
    return path


@dataclass
class Bundled:
    """Tiny models in the bundled ones' place; what was exported of them, each once it was there."""

    pictures: Path
    cache: Path
    exports: list[str]

    def kept(self) -> list[Path]:
        """Everything in the cache of bundles but locks."""
        folder = self.cache / "mue-edge" / "bundles"
        return sorted(p for p in folder.iterdir() if p.suffix != ".lock") if folder.is_dir() else []


@pytest.fixture
def bundled(
    tiny_model_folder: Path,
    tiny_entail_folder: Path,
    tiny_bundle: Path,
    tiny_entail_bundle: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Bundled:
    """The current folder and the user's cache are empty; an export is a copy."""
    from mue_edge.apps import entailment, stickers
    from mue_edge.export import build

    made = Bundled(pictures, tmp_path / "cache", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.cache))
    monkeypatch.setattr(stickers, "model_folder", lambda: tiny_model_folder)
    monkeypatch.setattr(entailment, "model_folder", lambda: tiny_entail_folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def export(folder: Path, out: Path, target: str, options: object, progress: object, name: str) -> object:
        shutil.copytree(tiny_bundle if folder == tiny_model_folder else tiny_entail_bundle, out)
        made.exports.append(f"{name}-{target}")
        return None

    monkeypatch.setattr(build, "export", export)
    return made
