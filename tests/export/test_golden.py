"""The reference encodes a picture once, and its logs are those of one that always encodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from mue_edge.export import reference  # noqa: E402
from mue_edge.export.formats import outputs  # noqa: E402
from mue_edge.loop.driver import set_inputs  # noqa: E402
from mue_edge.loop.policy import Policy, StackExit  # noqa: E402
from mue_edge.loop.replay import DecisionLog, decision_log, run  # noqa: E402
from mue_edge.models.cut import Piece  # noqa: E402
from tests.contract.cuts import CASES, make_case, pictures  # noqa: E402

EARLY = {"prompt": "image", "joint": "encoder", "text": "image"}


@pytest.mark.parametrize("name", CASES)
def test_encoders_run_once_for_a_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = make_case(name), Counter[str]()
    texts = ((0, 5, 6, 2), (0, 7, 2)) if made.layout.text_stem else ((), ())
    policies = Policy("never"), Policy("fixed", {EARLY[name]: StackExit(depth=1)}), Policy("never")

    def logs(runtime: reference.TorchRuntime) -> list[DecisionLog]:
        found = []
        for policy in policies:
            for picture, text in zip(pictures(), texts):
                set_inputs(runtime, picture, text)
                outcome = run(made.layout, made.settings, policy, runtime, trace=True, source=text)
                found.append(decision_log(outcome))
        return found

    def counted(piece: Piece, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        calls[piece.name] += 1
        return outputs(piece, inputs)

    wanted = logs(reference.TorchRuntime(made.cut))
    monkeypatch.setattr(reference, "outputs", counted)
    assert logs(reference.TorchRuntime(made.cut, reference.encoding_once(made.cut))) == wanted
    encoders = [stage.name for stack in made.layout.encoders for stage in stack.stages]
    assert encoders and {calls[piece] for piece in ("stem", *encoders)} == {2}
    assert calls["head"] > 2
