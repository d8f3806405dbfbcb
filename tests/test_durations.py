"""Times and shares of time as people write them."""

from __future__ import annotations

import pytest

from mue_edge.durations import Span, parse, seconds
from mue_edge.errors import UsageError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("50ms", 0.05), ("0.05s", 0.05), (".05 s", 0.05), (" 50 MS ", 0.05), ("2s", 2.0), ("2.s", 2.0),
        ("800us", 0.0008), ("800µs", 0.0008),
    ],
)  # fmt: skip
def test_times(text: str, wanted: float) -> None:
    assert seconds(text) == pytest.approx(wanted)
    assert parse(text).of(123.0) == seconds(text)  # whatever full depth takes


def test_shares() -> None:
    assert parse("50%") == Span(share=0.5) and parse("50 %").of(0.2) == pytest.approx(0.1)
    assert parse("100%").of(0.2) == 0.2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-3ms", "neither a time nor a share"), ("nan", "neither"), ("fifty", "neither"), ("", "neither"),
        ("infs", "neither"), ("1e3ms", "neither"), ("5 0ms", "neither"), ("1_0ms", "neither"),
        ("120%", "at most 100%"), ("0%", "more than 0"), ("0ms", "more than 0"), ("0.0s", "more than 0"),
        ("50", "50ms or 50s"), ("50min", "unknown unit 'min'"),
    ],
)  # fmt: skip
def test_what_is_neither(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        parse(text)
    assert repr(text) in str(error.value)


def test_a_share_is_no_time() -> None:
    with pytest.raises(UsageError, match=r"50ms or 0\.05s"):
        seconds("50%")
