"""Whether drafting pays: by times that are made up."""

from __future__ import annotations

from dataclasses import replace

from mue_edge.loop.lossless import TRIED, Payoff
from tests.loop.test_loop import layout

AT = replace(layout(), verify_rows=4)


def seconds(decoder: float, head: float) -> dict[str, float]:
    layers = {f"{kind}.{j}": cost for kind, cost in (("decoder", 1.0), ("verify", 1.2)) for j in range(3)}
    return {name: decoder * cost for name, cost in layers.items()} | {
        "embed": 0.0,
        "head": head,
        "verify_head": 1.2 * head,
        "stem": 99.0,
        "fill.1": 0.1,
        "cross_kv.0": 3.0,
    }


def caption(payoff: Payoff, kept: int) -> None:
    """A round of four drafts of one layer, of which so many are kept."""
    for run in ("stem", "cross_kv.0", *("embed", "decoder.0", "head") * 4, "verify.1", "verify.2", "verify_head"):
        payoff.record(run)
    payoff.record_caption(kept)


def test_it_pays_while_drafts_are_kept() -> None:
    payoff = Payoff(AT, seconds(1.0, 0.5).__getitem__)
    assert payoff.word == 3.5 and payoff.pays and payoff.ratio == 1
    for _ in range(TRIED):
        caption(payoff, 4)
    # 4 · 1.5 + 2 · 1.2 + .6 for four words of 3.5; what a caption calls once is not counted.
    assert abs(payoff.ratio - 9.0 / 14.0) < 1e-9 and payoff.pays
    payoff = Payoff(AT, seconds(1.0, 0.5).__getitem__)
    for _ in range(TRIED):
        assert payoff.pays
        caption(payoff, 2)
    assert payoff.ratio > 1 and not payoff.pays


def test_what_cannot_pay_is_not_tried() -> None:
    assert not Payoff(AT, seconds(0.1, 5.0).__getitem__).pays  # every draft runs the head once more
    assert not Payoff(layout(), seconds(1.0, 0.5).__getitem__).pays  # nothing to verify with
