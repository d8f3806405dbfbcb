"""Bundles that judge statements, on the other targets' adapters: the answers and exits are the host's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from mue_edge import targets
from mue_edge.export.build import export
from mue_edge.loop.policy import Policy, StackExit
from tests.apps.cli.run import picture

PLAN: dict[str, Any] = {"ends": {"text": [1, 3], "image": [1, 3], "decoder": [1, 3]}, "precision": "fp32"}
# Lowering takes long: there the text alone may leave early.
SHORT: dict[str, Any] = {"ends": {"text": [1, 3], "image": [3], "decoder": [3]}, "precision": "fp32"}
# What an adapter needs; jetson's is ONNX Runtime here, iphone's the evaluator of ML programs.
NEEDS = {"browser": "onnx", "jetson": "onnx", "iphone": "coremltools", "embedded-linux": "executorch.runtime"}
POLICIES = (
    Policy("never", name="full"),
    Policy("fixed", dict.fromkeys(("image", "text", "decoder"), StackExit(depth=1))),
    Policy("fixed", {"text": StackExit(depth=1)}),
    Policy("mue", {"image": StackExit(0.6), "text": StackExit(0.5)}),
    Policy("calm-softmax", {"decoder": StackExit(0.2)}),
)
# A joint encoder reads picture and statement in one sequence.
JOINT: dict[str, Any] = {"ends": {"encoder": [3], "decoder": [3]}, "precision": "fp32"}
STATEMENTS = ("a", "g f e d c b a", "b c")


@pytest.mark.parametrize("name", NEEDS)
def test_answers_are_the_hosts(
    name: str, tiny_entail_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("MUE_EDGE_JETSON", "onnxruntime")
    plan = SHORT if name == "embedded-linux" else PLAN
    for target in ("host", name):
        export(tiny_entail_folder, tmp_path / target, target, plan)
    file, left_after = picture(tmp_path / "a.png"), set()
    with (
        targets.open_entailer(tmp_path / "host", threads=1) as host,
        targets.open_entailer(tmp_path / name, threads=1) as other,
    ):
        for policy in POLICIES:
            if policy.rule == "fixed" and plan is SHORT:
                policy = policy.with_exit("image", depth=None).with_exit("decoder", depth=None)
            for statement in STATEMENTS:
                wanted = host.entail(file, statement, policy=policy)
                found = other.entail(file, statement, policy=policy)
                assert found.exits == wanted.exits, (policy, statement)
                assert found.answer == wanted.answer
                likely = list(wanted.probabilities.values())
                assert list(found.probabilities.values()) == pytest.approx(likely, abs=1e-4)
                left_after.add(found.exits["text"])
    assert left_after == {1, 3}


@pytest.mark.parametrize("name", NEEDS)
def test_answers_of_a_joint_encoder_are_the_hosts(
    name: str, joint_entail_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("MUE_EDGE_JETSON", "onnxruntime")
    for target in ("host", name):
        export(joint_entail_folder, tmp_path / target, target, JOINT)
    file = picture(tmp_path / "a.png")
    with (
        targets.open_entailer(tmp_path / "host", threads=1) as host,
        targets.open_entailer(tmp_path / name, threads=1) as other,
    ):
        for statement in STATEMENTS:
            likely = list(host.entail(file, statement).probabilities.values())
            found = other.entail(file, statement)
            assert list(found.probabilities.values()) == pytest.approx(likely, abs=1e-4)
            assert found.exits["encoder"] == 3
