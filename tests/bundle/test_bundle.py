"""Strict reading of bundles: whatever was tampered with is refused before a runtime sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mue_edge import schema
from mue_edge.bundle.folder import Bundle, open_bundle, with_pareto_front, write_manifest
from mue_edge.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    Constant,
    FileEntry,
    Manifest,
    Port,
    Preprocess,
    RuntimeVersion,
    Segment,
    plan_hash,
)
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import sha256
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.search import SearchSettings
from tests.layouts import layout, stages


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def manifest(folder: Path) -> Manifest:
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    plan = {"height": 32, "width": 32}
    return Manifest(
        SCHEMA,
        "m",
        "ofa",
        "caption",
        "host",
        "fp32",
        RuntimeVersion("onnxruntime", ">=1"),
        {"vocab_size": 9},
        plan,
        plan_hash(plan),
        {"stem": Segment("segments/stem.onnx", {"pixels": Port((1, 3, 32, 32))}, {"x": Port((1, 4, 8))})},
        {"pos_q": Constant("constants.bin", 0, (2, 2))},
        {name: FileEntry(p.stat().st_size, sha256(p)) for name, p in files.items() if name != MANIFEST},
        layout(stages("image", 1), stages("decoder", 1)),
        SearchSettings(),
        Preprocess(32, 32),
        ({"rule": "never", "name": "full"},),
        "full",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    (made / "segments").mkdir(parents=True)
    (made / "segments" / "stem.onnx").write_bytes(b"graph" * 100)
    (made / "constants.bin").write_bytes(bytes(64))
    write_manifest(made, manifest(made))
    return made


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_round_trip(folder: Path) -> None:
    opened = open_bundle(folder)
    assert isinstance(opened, Bundle)
    again = schema.decode(Manifest, schema.encode(opened.manifest), "again")
    assert again == opened.manifest == manifest(folder)


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    times = path.stat()
    path.write_bytes(raw)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_flipped_byte_is_refused(folder: Path) -> None:
    flip(folder / "segments" / "stem.onnx")
    with pytest.raises(InputFileError, match=r"stem\.onnx was changed"):
        open_bundle(folder)


def test_later_opens_trust_the_stamp_but_loading_and_paranoia_do_not(folder: Path) -> None:
    opened = open_bundle(folder)
    flip(folder / "segments" / "stem.onnx")  # size, time and inode as before
    assert open_bundle(folder).manifest == opened.manifest
    with pytest.raises(InputFileError, match="was changed"):
        opened.file("segments/stem.onnx")
    with pytest.raises(InputFileError, match="was changed"):
        open_bundle(folder, paranoid=True)


def test_a_missing_segment_is_named(folder: Path) -> None:
    (folder / "segments" / "stem.onnx").unlink()
    with pytest.raises(InputFileError, match=r"stem\.onnx is missing"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "a/../../x", "C:\\x", "..", "segments\\x"])
def test_paths_that_leave_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "x").write_bytes(b"outside")
    edit(folder, lambda d: d["files"].update({name: {"bytes": 7, "sha256": "0" * 64}}))
    with pytest.raises(InputFileError, match=r"leaves the bundle|names"):
        open_bundle(folder)


def test_links_are_refused(folder: Path) -> None:
    target = folder.parent / "outside.bin"
    (folder / "constants.bin").rename(target)
    (folder / "constants.bin").symlink_to(target)
    with pytest.raises(InputFileError, match="link"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(surprise=1),
        lambda d: d.pop("layout"),
        lambda d: d.update(schema=3),
        lambda d: d.update(schema=1),
        lambda d: d.update(schema=True),
        lambda d: d["plan"].update(height=64),
        lambda d: d.update(chosen="fast"),
        lambda d: d["front"].append({"rule": "never", "name": "x", "junk": 1}),
        lambda d: d["segments"]["stem"].update(file="segments/other.onnx"),
        lambda d: d["segments"]["stem"]["inputs"]["pixels"].update(shape=["1"]),
        lambda d: d["constants"]["pos_q"].update(offset=10**9),
        lambda d: d["constants"]["pos_q"].update(offset=-1),
        lambda d: d["files"]["constants.bin"].update(bytes=63),
        lambda d: d["preprocess"].update(mean=float("nan")),
        lambda d: d["layout"].update(rows="1"),
        lambda d: d["layout"].update(stacks=[]),
        lambda d: d["layout"]["stacks"].pop(),
        lambda d: d["layout"]["stacks"].pop(0),
        lambda d: d["layout"]["stacks"][0].update(source="a sound"),
        lambda d: d["layout"]["stacks"][0].update(source="constant"),
        lambda d: d["layout"]["stacks"][0].update(name="decoder"),
        lambda d: d["layout"]["stacks"][0].update(stages=[]),
    ],
)
def test_a_manifest_that_does_not_fit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder, change)
    with pytest.raises(InputFileError):
        open_bundle(folder)


THIRD = [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    "stored",
    [
        {"mean": [0.5, 0.5]},
        {"mean": [0.5] * 4},
        {"mean": []},
        {"mean": [0.5, 0.5, float("nan")]},
        {"mean": [0.5, 0.5, float("inf")]},
        {"mean": [0.5, 0.5, 1e30]},
        {"mean": "0.5"},
        {"mean": None},
        {"mean": True},
        {"mean": [0.5, 0.5, True]},
        {"std": 0},
        {"std": float("inf")},
        {"std": [0.2, 0.0, 0.2]},
        {"std": [0.2, -0.2, 0.2]},
        {"std": [0.2, 0.2, 1e-50]},
        {"std": [[0.2] * 3]},
    ],
)
def test_what_is_no_scale_is_refused(folder: Path, stored: dict[str, Any]) -> None:
    edit(folder, lambda d: d["preprocess"].update(stored))
    with pytest.raises(InputFileError, match=r"manifest\.json\.preprocess.*(mean|std)"):
        open_bundle(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', "[" * 100_000])
def test_a_manifest_that_is_no_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputFileError):
        open_bundle(folder)


def test_a_folder_that_is_no_bundle_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="mue-edge export"):
        open_bundle(tmp_path)


FULL = Policy("never", name="full", seconds=0.02)
FAST = Policy("mue", {"image": StackExit(0.5)}, name="fast", seconds=0.01, quality=0.9)


def test_a_new_front_is_opened_with_the_plans_hash(folder: Path) -> None:
    before = open_bundle(folder).manifest
    made = with_pareto_front(folder, [FAST, FULL], "fast")
    again = open_bundle(folder, paranoid=True).manifest
    assert made.manifest == again and again.chosen == "fast"
    assert list(again.policies()) == ["fast", "full"]
    assert [(p.plan, p.seconds) for p in again.policies().values()] == [
        (before.plan_hash, 0.01),
        (before.plan_hash, 0.02),
    ]
    assert again.segments == before.segments and again.files == before.files


@pytest.mark.parametrize(
    ("policies", "chosen"),
    [
        ([FAST, FULL], "slow"),
        ([FAST, FAST, FULL], "fast"),
        ([FULL, FAST], "fast"),
        ([FAST], "fast"),
        ([], "full"),
        ([Policy("mue", {"image": StackExit(0.5)}, name="slow", seconds=0.03), FAST, FULL], "fast"),
        ([Policy("mue", {"image": StackExit(0.5)}, name="fast", plan="another"), FULL], "fast"),
        ([Policy("mue", {"image": StackExit(0.5)}), FULL], "full"),
        ([Policy("mue", {"imgae": StackExit(0.5)}, name="fast"), FULL], "fast"),
    ],
)
def test_a_front_that_does_not_fit_changes_nothing(folder: Path, policies: list[Policy], chosen: str) -> None:
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(UsageError):
        with_pareto_front(folder, policies, chosen)
    assert (folder / MANIFEST).read_bytes() == before


def test_the_policy_that_pages_open_on(folder: Path) -> None:
    """The chosen one; of a model that knows little, before anybody calibrated it, the slowest early exit."""
    early = ({"rule": "fixed", "depth_image": 1, "name": "a"}, {"rule": "mue", "theta_image": 0.5, "name": "b"})
    full: dict[str, Any] = {"rule": "never", "name": "full"}
    own = replace(manifest(folder), front=(*early, full))
    assert own.initial_policy == "full"
    bundled = replace(own, knows="red squares only")
    assert bundled.initial_policy == "b"
    assert replace(bundled, chosen="a").initial_policy == "a"
    assert replace(bundled, front=(*early, full | {"seconds": 0.1})).initial_policy == "full"
    assert replace(bundled, front=(full,)).initial_policy == "full"


def test_policies_of_a_front_have_names_that_differ(folder: Path) -> None:
    edit(folder, lambda data: data["front"].append({"rule": "mue", "theta_image": 0.5}))
    with pytest.raises(InputFileError, match=r"manifest.json: .*names that differ"):
        open_bundle(folder)
    edit(folder, lambda data: data["front"][-1].update(name=data["front"][0]["name"]))
    with pytest.raises(InputFileError, match="names that differ"):
        open_bundle(folder)
    edit(folder, lambda data: data["front"][-1].update(name="x", beta=7))
    with pytest.raises(InputFileError, match=r"manifest.json: front\[\d\]: .*beta"):
        open_bundle(folder)


def test_a_name_that_no_file_can_have(folder: Path) -> None:
    edit(folder, lambda data: data["files"].update({"x" * 5000: {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(InputFileError, match=r"'x{80}': File name too long"):
        open_bundle(folder)
    with pytest.raises(InputFileError, match="is not a bundle"):
        open_bundle("y" * 5000)


def test_a_whole_number_in_the_place_of_any_number(folder: Path) -> None:
    """Of 401 digits, in every place of a manifest where a number stands."""
    whole = json.loads((folder / MANIFEST).read_text())

    def places(value: Any) -> list[tuple[Any, Any]]:
        keys = value.keys() if isinstance(value, dict) else range(len(value))
        found = [(value, key) for key in keys if type(value[key]) in (int, float)]
        return found + [p for key in keys if isinstance(value[key], (dict, list)) for p in places(value[key])]

    numbers = places(whole)
    assert len(numbers) > 10
    for holder, key in numbers:
        before, holder[key] = holder[key], 10**400
        (folder / MANIFEST).write_text(json.dumps(whole))
        with pytest.raises(InputFileError, match=r"manifest\.json holds a whole number of 401 digits"):
            open_bundle(folder)
        with pytest.raises(InputFileError):
            schema.decode(Manifest, {"schema": float("inf")}, "again")
        holder[key] = before


def test_files_that_are_not_listed_are_tolerated(folder: Path) -> None:
    (folder / "notes.txt").write_text("not of the bundle")
    opened = open_bundle(folder, paranoid=True)
    with pytest.raises(InputFileError, match=r"lists no file 'notes\.txt'"):
        opened.file("notes.txt")
