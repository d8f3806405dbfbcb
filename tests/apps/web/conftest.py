"""A site of the tiny model, made by the command, where npm's packages can be had."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mue_edge
from mue_edge.apps.web.npm import NpmPackage
from mue_edge.bundle.folder import open_bundle, with_pareto_front
from mue_edge.errors import EnvironmentLacksError
from mue_edge.loop.policy import Policy, StackExit

TIMEOUT = 90  # seconds for 40 MB, once: they are kept in the user's cache


FIXED = Policy("fixed", {"image": StackExit(depth=1), "decoder": StackExit(depth=2)}, name="fixed")
FULL = Policy("never", name="full")
# Of statements: fixed depths, thresholds that part texts, pictures and words, full depth.
JUDGING = (
    Policy(
        "fixed", {"image": StackExit(depth=1), "text": StackExit(depth=2), "decoder": StackExit(depth=2)}, name="fixed"
    ),
    Policy(
        "mue", {"image": StackExit(0.6), "text": StackExit(0.5), "decoder": StackExit(0.5)}, beta=1.0, name="earlier"
    ),
    Policy(
        "mue", {"image": StackExit(0.8), "text": StackExit(0.65), "decoder": StackExit(0.7)}, beta=1.0, name="early"
    ),
    FULL,
)
STATEMENTS = ("a", "g f e d c b a", "a b c", "b a", "d d d d")


def noise(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def front_of(bundle: Path, pictures: Sequence[Image.Image]) -> tuple[Policy, ...]:
    """Fixed depths, a threshold that parts the steps of a caption, full depth."""
    with mue_edge.open(bundle, threads=1) as captioner:
        for twentieths in range(19, 0, -1):
            exits = {"decoder": StackExit(twentieths / 20), "image": StackExit(depth=2)}
            early = Policy("mue", exits, beta=1.0, name="early")
            found = [captioner.caption(p, policy=early).exits["decoder"] for p in pictures]
            if any(len(set(depths)) > 1 for depths in found):
                return FIXED, early, FULL
    raise AssertionError("no threshold parts the steps")


@pytest.fixture(scope="session")
def front(tiny_bundle: Path) -> tuple[Policy, ...]:
    return front_of(tiny_bundle, [noise(60, 50, seed) for seed in range(2)])


@pytest.fixture(scope="session")
def tarballs() -> list[tuple[NpmPackage, Path]]:
    from mue_edge.apps.web import npm

    try:
        return [(package, npm.tarball(package, timeout=TIMEOUT)) for package in npm.PACKAGES]
    except EnvironmentLacksError as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def tiny_site(
    tiny_model_folder: Path, front: tuple[Policy, ...], tarballs: object, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`mue-edge export MODEL --target browser`: beams, decoder layers in groups. Read only."""
    from mue_edge.apps.cli import main as cli
    from mue_edge.apps.web import site

    work = tmp_path_factory.mktemp("sites")
    model = Path(shutil.copytree(tiny_model_folder, work / "tiny-model"))
    (model / "policies.json").write_text(json.dumps([policy.to_json() for policy in front[:-1]]))
    plan = work / "plan.json"
    plan.write_text(json.dumps({"ends": {"decoder": [2, 3]}, "beam": 3}))
    patch = pytest.MonkeyPatch()
    patch.setattr(site, "packages", lambda: tarballs)
    words = ["export", model, "--target", "browser", "--plan", plan, "--out", work / "tiny"]
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    patch.undo()
    assert not end.value.code
    return work / "tiny"


@pytest.fixture(scope="session")
def greedy_site(
    tiny_site: Path, tiny_bundle: Path, front: tuple[Policy, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same page around the greedy bundle with a layer a segment."""
    site = Path(shutil.copytree(tiny_site, tmp_path_factory.mktemp("sites") / "greedy"))
    shutil.rmtree(site / "bundle")
    shutil.copytree(tiny_bundle, site / "bundle")
    with_pareto_front(site / "bundle", front, "full")
    return site


@pytest.fixture(scope="session")
def imagenet_site(tiny_site: Path, imagenet_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same page around a bundle whose pictures have ImageNet's mean and deviation. Read only."""
    site = Path(shutil.copytree(tiny_site, tmp_path_factory.mktemp("sites") / "imagenet"))
    shutil.rmtree(site / "bundle")
    shutil.copytree(imagenet_bundle, site / "bundle")
    return site


@pytest.fixture(scope="session")
def beam_site(tiny_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site itself, with thresholds that part its beams."""
    site = Path(shutil.copytree(tiny_site, tmp_path_factory.mktemp("sites") / "beam"))
    front = front_of(site / "bundle", [noise(60, 50, seed) for seed in range(2)])
    with_pareto_front(site / "bundle", front, "full")
    return site


@pytest.fixture(scope="session")
def entail_site(
    tiny_entail_bundle: Path, tarballs: list[tuple[NpmPackage, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A site around the tiny bundle that judges statements. Read only."""
    from mue_edge.apps.web import site

    folder = tmp_path_factory.mktemp("sites") / "entail"
    shutil.copytree(tiny_entail_bundle, folder / "bundle")
    site.write(folder, with_pareto_front(folder / "bundle", JUDGING, "full"), tarballs, {})
    return folder


@pytest.fixture(scope="session")
def captions_site(
    tiny_captions_bundle: Path, tarballs: list[tuple[NpmPackage, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A site around the tiny bundle that reads captions beside statements. Read only."""
    from mue_edge.apps.web import site

    folder = tmp_path_factory.mktemp("sites") / "captions"
    shutil.copytree(tiny_captions_bundle, folder / "bundle")
    site.write(folder, open_bundle(folder / "bundle"), tarballs, {})
    return folder


@pytest.fixture(scope="session")
def joint_site(
    joint_entail_folder: Path, tarballs: list[tuple[NpmPackage, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A site around a bundle whose joint encoder reads picture and statement in one sequence. Read only."""
    from mue_edge.apps.web import site
    from mue_edge.export.build import export

    folder = tmp_path_factory.mktemp("sites") / "joint"
    made = export(joint_entail_folder, folder / "bundle", "browser", {"ends": {"encoder": [3]}})
    site.write(folder, made.bundle, tarballs, {})
    return folder


class Server:
    """Python's own file server on a folder; `seen` holds the paths that were asked for. hanging: a file that
    never comes."""

    def __init__(self, folder: Path, hanging: str = "") -> None:
        self.seen: list[str] = []
        self._over = threading.Event()
        seen, over = self.seen, self._over

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                seen.append(self.path)

            def do_GET(self) -> None:
                if hanging and self.path.endswith(hanging):
                    over.wait()
                else:
                    super().do_GET()

        handler = functools.partial(Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def served(tiny_site: Path) -> Iterator[Server]:
    server = Server(tiny_site)
    yield server
    server.stop()


@pytest.fixture
def served_entail(entail_site: Path) -> Iterator[Server]:
    server = Server(entail_site)
    yield server
    server.stop()
