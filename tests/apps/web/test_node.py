"""The page's own modules under Node: onnxruntime-web's WASM, Pyodide, the loop, against the host."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mue_edge
from mue_edge.inputs.image import preprocess
from mue_edge.targets import open_entailer
from tests.apps.web.conftest import STATEMENTS, noise

SCRIPT = Path(__file__).parent / "captions.mjs"
# Shrunk, grown, as it is, much in one direction only. Tall pictures are left out: Pillow 13 may take their
# rows first, which differs by a few grey levels on noise.
SIZES = ((60, 50), (30, 20), (48, 48), (301, 40), (300, 300))


def under_node(site: Path, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    done = subprocess.run(
        [node, str(SCRIPT), str(site)], input=json.dumps(jobs), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def assert_equal_to_the_host(site: Path, work: Path, pictures: int) -> list[dict[str, Any]]:
    """Words, tokens, exits and calls under every policy of the front; the answers of the last policy."""
    jobs, wanted = [], []
    with mue_edge.open(site / "bundle", threads=1) as captioner:
        front = list(captioner.bundle.manifest.policies())
        for policy in front:
            for seed in range(pictures):
                file = work / f"{seed}.bin"
                picture = noise(60, 50, seed)
                file.write_bytes(np.asarray(captioner.pixels(picture), np.float32).tobytes())
                jobs.append({"pixels": str(file), "policy": policy})
                wanted.append(captioner.caption(picture, policy=policy))
    found = under_node(site, jobs)
    assert [p["name"] for p in found["policies"]] == front
    answers: list[dict[str, Any]] = found["answers"]
    for caption, answer in zip(wanted, answers, strict=True):
        assert answer["tokens"] == list(caption.tokens)
        assert (answer["text"], answer["exits"]) == (caption.text, dict(caption.exits))
        assert answer["calls"] == caption.calls
        assert [token["depth"] for token in answer["stream"]] == caption.exits["decoder"][:-1]
    assert any(len(set(c.exits["decoder"])) > 1 for c in wanted)  # else no row was ever filled
    return answers


def test_captions_equal_the_hosts(greedy_site: Path, tmp_path: Path) -> None:
    for answer in assert_equal_to_the_host(greedy_site, tmp_path, 6):
        assert all(answer["text"].startswith(token["text"]) for token in answer["stream"])


def test_beams_equal_the_hosts(beam_site: Path, tmp_path: Path) -> None:
    """Several rows: ancestry in the masks, rows that are filled, segments of two layers."""
    assert_equal_to_the_host(beam_site, tmp_path, 4)


def test_answers_equal_the_hosts(entail_site: Path, tmp_path: Path) -> None:
    """Whatever was asked before, a longer statement too: nothing of it is left, and padding takes no part."""
    jobs, wanted = [], []
    with open_entailer(entail_site / "bundle", threads=1) as entailer:
        for seed in range(2):
            picture, file = noise(60, 50, seed), tmp_path / f"{seed}.bin"
            file.write_bytes(np.asarray(entailer.pixels(picture), np.float32).tobytes())
            for policy in entailer.bundle.manifest.policies():
                for statement in STATEMENTS:
                    jobs.append({"pixels": str(file), "statement": statement, "policy": policy})
                    wanted.append(entailer.entail(picture, statement, policy=policy))
    answers = under_node(entail_site, jobs)["answers"]
    for job, mine, answer in zip(jobs, wanted, answers, strict=True):
        assert answer["answer"] == mine.answer, job
        assert answer["probabilities"] == pytest.approx(mine.probabilities, abs=1e-5), job
        assert list(answer["probabilities"]) == ["no", "yes", "maybe"]
        assert (answer["exits"], answer["calls"]) == (dict(mine.exits), mine.calls), job
        assert answer["note"] == ""
    assert len({w.answer for w in wanted}) > 1  # else equality says little
    assert all(len({w.exits[stack] for w in wanted}) > 1 for stack in ("text", "image"))
    assert any(len(set(w.exits["decoder"])) > 1 for w in wanted)


def test_answers_with_a_caption_equal_the_hosts(captions_site: Path, tmp_path: Path) -> None:
    captions, file = (None, "d E", "f"), tmp_path / "0.bin"
    with open_entailer(captions_site / "bundle", threads=1) as entailer:
        file.write_bytes(np.asarray(entailer.pixels(noise(60, 50, 0)), np.float32).tobytes())
        wanted = [entailer.entail(noise(60, 50, 0), "a b", caption=said).probabilities for said in captions]
    job = {"pixels": str(file), "statement": "a b", "policy": "full"}
    answers = under_node(captions_site, [job | {"caption": said} for said in captions])["answers"]
    for mine, answer in zip(wanted, answers, strict=True):
        assert answer["probabilities"] == pytest.approx(mine, abs=1e-5)
    assert len({answer["probabilities"]["yes"] for answer in answers}) == 3


def test_answers_of_a_joint_encoder_equal_the_hosts(
    joint_site: Path, joint_entail_folder: Path, tmp_path: Path
) -> None:
    """Picture and statement in one sequence, of which padding takes no part; positions in both inputs."""
    from mue_edge.export.build import export

    export(joint_entail_folder, tmp_path / "host", options={"ends": {"encoder": [3]}})
    jobs, wanted, file = [], [], tmp_path / "0.bin"
    with open_entailer(tmp_path / "host", threads=1) as entailer:
        file.write_bytes(np.asarray(entailer.pixels(noise(60, 50, 0)), np.float32).tobytes())
        for statement in STATEMENTS:
            jobs.append({"pixels": str(file), "statement": statement, "policy": "full"})
            wanted.append(entailer.entail(noise(60, 50, 0), statement))
    for mine, answer in zip(wanted, under_node(joint_site, jobs)["answers"], strict=True):
        assert answer["probabilities"] == pytest.approx(mine.probabilities, abs=1e-5)
        assert (answer["exits"], answer["calls"]) == (dict(mine.exits), mine.calls)


def test_statements_that_cannot_be_judged(entail_site: Path, tmp_path: Path) -> None:
    """One line each, and the next statement is judged."""
    file = tmp_path / "grey.bin"
    file.write_bytes(np.zeros((1, 3, 48, 48), np.float32).tobytes())
    statements = (" ", "a " * 8, "a xyz", "a")
    jobs = [{"pixels": str(file), "statement": statement, "policy": "full"} for statement in statements]
    empty, long, foreign, fine = under_node(entail_site, jobs)["answers"]
    assert empty["error"] == "the statement ' ' says nothing"
    assert long["error"].startswith("the text has 12 tokens, this bundle reads 11; shorten the statement")
    assert (foreign["note"], fine["note"]) == ("The model has no words for xyz.", "")


def test_captions_leave_nothing_behind(greedy_site: Path, tmp_path: Path) -> None:
    """Neither Python objects nor tensors nor WebAssembly's memory grow with the number of captions."""
    jobs: list[dict[str, Any]] = []
    with mue_edge.open(greedy_site / "bundle", threads=1) as captioner:
        policies = list(captioner.bundle.manifest.policies())
        for seed in range(5):
            pixels = np.asarray(captioner.pixels(noise(60, 50, seed)), np.float32)
            (tmp_path / f"{seed}.bin").write_bytes(pixels.tobytes())
    every = [{"pixels": str(tmp_path / f"{i}.bin"), "policy": p} for p in policies for i in range(5)]
    for _ in range(3):
        jobs += [*every, *every, {"memory": True}]
    _, before, after = (a for a in under_node(greedy_site, jobs)["answers"] if "python" in a)
    assert before["wasm"] > 1e7 and before["buffers"] > 10
    assert before["wasm"] < 64e6, "Python's memory grew beyond what Pyodide and onnxruntime-web begin with"
    # Python may have freed what it kept for reuse; what a caption left behind would be there thirty times.
    assert after["python"] < before["python"] + 30
    del before["python"], after["python"]
    assert after == before


def test_resizing_equals_pillows_to_a_grey_level(tiny_site: Path, tmp_path: Path) -> None:
    jobs, wanted = [], []
    for i, (width, height) in enumerate(SIZES):
        picture = noise(width, height, i)
        file = tmp_path / f"{i}.rgba"
        file.write_bytes(picture.convert("RGBA").tobytes())
        jobs.append({"rgba": str(file), "width": width, "height": height})
        pixels = preprocess(picture, 48, 48, mean=0.0, std=1.0) * 255
        wanted.append(pixels[0].transpose(1, 2, 0).round().astype(int).ravel())
    for size, mine, answer in zip(SIZES, wanted, under_node(tiny_site, jobs)["answers"], strict=True):
        assert np.abs(np.array(answer["bytes"]) - mine).max() <= 1, size


def test_pixels_are_scaled_by_channel(imagenet_site: Path, tmp_path: Path) -> None:
    """At the network's size, so that nothing is resized: the same pixels, and the host's captions."""
    jobs, wanted = [], []
    with mue_edge.open(imagenet_site / "bundle", threads=1) as captioner:
        for seed in range(3):
            picture, file = noise(48, 48, seed), tmp_path / f"{seed}.rgba"
            file.write_bytes(picture.convert("RGBA").tobytes())
            jobs.append({"rgba": str(file), "width": 48, "height": 48, "policy": "full"})
            levels = np.asarray(picture, np.float64) / 255
            pixels = (levels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
            wanted.append((pixels.transpose(2, 0, 1), captioner.caption(picture, policy="full")))
    for (seen, caption), answer in zip(wanted, under_node(imagenet_site, jobs)["answers"], strict=True):
        np.testing.assert_allclose(np.reshape(answer["pixels"], seen.shape), seen, atol=1e-5)
        assert answer["tokens"] == list(caption.tokens)


PAGES = """
import { pagesFor } from "./page/memory.mjs";
const file = (bytes) => ({ bytes });
const golden = file(2 ** 40);
const bundle = (weights) => ({ files: { "segments/weights.bin": file(weights), "golden/a.npy": golden } });
console.log(JSON.stringify([24e6, 200e6, 4e9].map((weights) => pagesFor(bundle(weights)))));
"""


def test_memory_is_capped_by_the_bundle(tiny_site: Path, tmp_path: Path) -> None:
    """`stickers` and smaller: 512 MiB, which old iPhones give; then by the weights, up to all there is."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    shutil.copytree(tiny_site / "page", tmp_path / "page")
    (tmp_path / "pages.mjs").write_text(PAGES)
    done = subprocess.run([node, str(tmp_path / "pages.mjs")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    small, medium, large = json.loads(done.stdout)
    assert small == 8192 and 8192 < medium < 32768 and large == 65536
