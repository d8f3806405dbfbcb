"""The Briefcase project: what is in it runs by itself, and is for the right platforms."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mue_edge
from mue_edge import targets
from mue_edge.apps.phone import project
from mue_edge.bundle.folder import open_bundle
from mue_edge.errors import UsageError
from tests.apps.cli.run import Runner, picture
from tests.test_imports import BLOCKER, HEAVY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What a phone has: numpy and Pillow, and the runtime of this bundle.
ABSENT = {*HEAVY, "click"} - {"onnxruntime"}
ALONE = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, "src")
import mue_edge
assert mue_edge.__file__.startswith({place!r}), mue_edge.__file__
import mue_edge.apps.phone.reader, mue_edge.apps.phone.devices
import mue_edge.targets.iphone, mue_edge.targets.android, mue_edge.targets.coreml.objc
import mue_edge.targets.executorch.java, mue_edge.apps.phone.ios, mue_edge.apps.phone.android
from mue_edge import targets
from mue_edge.apps.phone.reader import BackgroundReader
reader = BackgroundReader(lambda: targets.open_session("src/captions/bundle", threads=1))
async def use():
    await reader.start()
    nothing = lambda seen: None
    return await {reading}
print(json.dumps(asyncio.run(use()).spoken))
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


def alone(place: Path, reading: str) -> Any:
    """What the project's own copy of the package reads, in a process that has what a phone has."""
    code = BLOCKER.format(blocked=ABSENT, modules=[]) + ALONE.format(place=str(place), reading=reading)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_captions_by_itself(run: Runner, tiny_bundle: Path, tmp_path: Path) -> None:
    place, shown = tmp_path / "app", picture(tmp_path / "a.png")
    done = run("phone", "--project", place, "--bundle", tiny_bundle)
    assert done.code == 0 and "briefcase run linux" in done.out and "unverified" not in done.out
    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        wanted = captioner.caption(shown).text
    assert alone(place, f"reader.caption(Path({str(shown)!r}), 'full', nothing, nothing)") == wanted


def test_it_judges_statements_by_itself(run: Runner, tiny_entail_bundle: Path, tmp_path: Path) -> None:
    place, shown = tmp_path / "app", picture(tmp_path / "a.png")
    done = run("phone", "--project", place, "--bundle", tiny_entail_bundle)
    assert done.code == 0 and "briefcase run linux" in done.out
    with targets.open_entailer(tiny_entail_bundle, threads=1) as entailer:
        wanted = entailer.entail(shown, "a b").answer
    found = alone(place, f"reader.judge(Path({str(shown)!r}), 'a b', 'full', nothing)")
    assert found == f"a b? {wanted}"
    made = configured(open_bundle(tiny_entail_bundle))
    app = made["app"]["captions"]
    assert (made["project_name"], app["formal_name"]) == ("Statements", "Statements")
    assert "statement" in app["description"] and "statement" in app["permission"]["camera"]
    assert (place / "src" / "mue_edge" / "apps" / "phone" / "question.py").is_file()


def configured(bundle: Any) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(project.configuration(bundle))["tool"]["briefcase"]
    return found


def test_configuration(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    found = configured(bundle)
    app = found["app"]["captions"]
    assert found["version"] == mue_edge.__version__ and "{{" not in project.configuration(bundle)
    assert app["formal_name"] == "Captions" and app["permission"]["camera"].startswith("To caption")
    assert {"iOS", "android", "linux", "macOS", "windows"} <= set(app)
    needed = {name: app["requires"] + app[name]["requires"] for name in ("iOS", "android", "linux")}
    wants = {name: any(r.startswith("numpy") for r in needed[name]) for name in needed}
    assert wants == {"iOS": False, "android": True, "linux": True}
    assert "numpy>=1.24" in needed["android"]  # Chaquopy has 1.26 for the Python that its Pillow is for
    assert "org.pytorch:executorch-android:1.4.1" in app["android"]["build_gradle_dependencies"]
    assert "TTS_SERVICE" in app["android"]["android_manifest_extra_content"]
    assert app["android"]["android_manifest_application_attrs_extra_content"] == 'android:largeHeap="true"'

    def lowered(backend: str) -> Any:
        plan = dict(bundle.manifest.plan) | {"backend": backend}
        made = replace(bundle, manifest=replace(bundle.manifest, plan=plan))
        return configured(made)["app"]["captions"]

    assert [lowered(x)["iOS"]["min_os_version"] for x in ("ios18", "ios17")] == ["18.0", "17.0"]
    libraries = [lowered(x)["android"]["build_gradle_dependencies"][-1] for x in ("xnnpack", "vulkan")]
    assert libraries == [f"org.pytorch:executorch-android{x}:1.4.1" for x in ("", "-vulkan")]


def test_targets_without_an_app(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    jetson = replace(bundle, manifest=replace(bundle.manifest, target="jetson"))
    with pytest.raises(UsageError, match="iphone, android, host"):
        project.write(tmp_path / "app", jetson)


def test_another_folder_is_not_replaced(run: Runner, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("mine")
    assert "holds other things" in run("phone", "--project", tmp_path, "--bundle", tiny_bundle).error(2)
    assert (tmp_path / "pyproject.toml").read_text() == "mine"
