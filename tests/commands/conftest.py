"""Commands run in this process; pictures and an exiting policy for the tiny bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.run import Runner, picture


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
    from mue_edge.bench import exiting_policy
    from mue_edge.targets import golden

    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        shown, _ = golden.read(captioner.bundle)
        pixels = [golden.pixels(x, captioner.bundle.manifest.preprocess) for x in shown]
        policy, _ = exiting_policy(captioner, pixels)
    path = tmp_path_factory.mktemp("policies") / "early.json"
    path.write_text(json.dumps(policy.to_json()))
    return path
