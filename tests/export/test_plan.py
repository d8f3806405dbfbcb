"""Default boundaries: per layer where calls are cheap, else as many segments as the target wants."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from mue_edge.errors import UsageError
from mue_edge.export import plan
from mue_edge.export.plan import default_ends
from mue_edge.targets import target
from tests.models.ofa.tiny import make


def test_a_target_with_dear_calls_gets_few_segments() -> None:
    model = make(encoder_layers=6, decoder_layers=6, decomposed=True)
    host = target("host")
    assert default_ends(model, host)["image"] == (1, 2, 3, 4, 5, 6)
    dear = replace(host, calls="grouped", segments={"image": 3, "decoder": 2})
    ends = default_ends(model, dear)
    assert ends["image"] == (2, 4, 6) and ends["decoder"] == (3, 6)
    assert ends["text"] == (1, 2, 3, 4, 5, 6)  # the target does not say
    shallow = make(encoder_layers=2, decoder_layers=3, decomposed=True)
    assert default_ends(shallow, dear)["image"] == (1, 2)
    assert default_ends(shallow, dear)["decoder"] in ((1, 3), (2, 3))


def test_a_joint_encoder_is_one_segment_everywhere() -> None:
    assert default_ends(make(), target("host"))["encoder"] == (3,)


def test_the_backend_is_part_of_the_plan() -> None:
    model = make(decomposed=True)
    assert plan.make(model, target("host"), (48, 48), {}).backend == ""
    android = target("android")
    assert plan.make(model, android, (48, 48), {}).backend == "xnnpack"
    vulkan = plan.make(model, android, (48, 48), {"backend": "vulkan"})
    assert vulkan.backend == "vulkan" and vulkan.to_json()["backend"] == "vulkan"
    with pytest.raises(UsageError, match="no backend 'abacus'; it has: xnnpack, vulkan"):
        plan.make(model, android, (48, 48), {"backend": "abacus"})
    with pytest.raises(UsageError, match="it has: none to choose from"):
        plan.make(model, target("host"), (48, 48), {"backend": "vulkan"})


def test_large_vocabularies_are_screened_where_that_is_exact() -> None:
    large, host = make(decomposed=True, vocab_size=plan.SCREENED_WORDS), target("host")
    assert plan.make(large, host, (48, 48), {}).to_json()["screened"] is True
    for options in ({"screened": False}, {"beam": 2}, {"task": "entail"}):
        assert "screened" not in plan.make(large, host, (48, 48), options).to_json()
    for name in ("browser", "android", "iphone", "jetson"):
        assert not plan.make(large, target(name), (48, 48), {}).screened
    small = make(decomposed=True)
    assert not plan.make(small, host, (48, 48), {}).screened
    assert plan.make(small, host, (48, 48), {"screened": True}).screened
    for name, options in (("browser", {}), ("host", {"beam": 2}), ("host", {"task": "entail"})):
        with pytest.raises(UsageError, match="screened head needs the target host, one beam and captions"):
            plan.make(small, target(name), (48, 48), options | {"screened": True})
