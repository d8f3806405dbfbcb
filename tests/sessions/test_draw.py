"""A caption's exits, drawn."""

from __future__ import annotations

from xml.etree import ElementTree

from PIL import Image

from mue_edge.inputs.tokens import Tokenizer
from mue_edge.loop.protocol import ExitDecision, Stage
from mue_edge.sessions import draw
from mue_edge.sessions.captioner import Caption
from tests.layouts import layout, stages

TOKENIZER = Tokenizer(
    ("<s>", "<pad>", "</s>", "<unk>", "Ġa", "Ġcat", "ĠéĽ¨"), (), frozenset(range(4)), strip_punctuation=False
)
LAYOUT = layout(stages("image", 4), (Stage("decoder.0", 2), Stage("decoder.1", 3)), distances=(0.5, 0.2, 0.1))


def exit_test(stack: str, step: int, score: float, leave: bool) -> ExitDecision:
    return ExitDecision(stack, 2, step, (score,), (1 - score,), 0.9, leave)


def caption() -> Caption:
    decisions = (
        exit_test("image", 0, 0.8, False), exit_test("image", 0, 0.95, True),
        exit_test("decoder", 0, 0.91, True), exit_test("decoder", 1, 0.5, False),
    )  # fmt: skip
    exits = {"image": 2, "text": 3, "decoder": [2, 3, 2, 3]}
    seconds = {"total": 0.01}
    return Caption("a cat <&>", (4, 5, 2), -0.5, exits=exits, decisions=decisions, seconds=seconds, calls=17)


def test_what_is_drawn() -> None:
    drawing = draw.drawing_of(caption(), LAYOUT, TOKENIZER)
    assert [(b.label, b.depth, b.layers, b.score) for b in drawing.encoder] == [
        ("image", 2, 4, 0.95),
        ("text", 3, 3, None),
    ]
    # The last step found nothing for the best hypothesis: it has no word.
    assert [(s.label, s.depth, s.score) for s in drawing.steps] == [
        ("a", 2, 0.91),
        ("cat", 3, None),
        ("end", 2, None),
        ("", 3, None),
    ]
    assert drawing.mean == 2.5


def test_text() -> None:
    lines = draw.as_text(draw.drawing_of(caption(), LAYOUT, TOKENIZER)).splitlines()
    assert lines == [
        "image    ██··  2 of 4 layers, left at score 0.9500",
        "text     ███  3 of 3 layers",
        "decoder  a      cat    end",
        " layer 3 ·      ███    ·      ███",
        " layer 2 ███    ███    ███    ███",
        " layer 1 ███    ███    ███    ███",
        "  score  0.9100",
        "decoder  2.50 of 3 layers a token on average",
    ]


def test_narrow_terminals_get_blocks() -> None:
    text = draw.as_text(draw.drawing_of(caption(), LAYOUT, TOKENIZER), width=24)
    assert text.count(" layer 1 ") == 2
    assert max(map(len, text.splitlines()[2:-1])) <= 24
    assert draw.as_text(draw.drawing_of(caption(), LAYOUT, TOKENIZER), width=1).count(" layer 1 ") == 4


def test_wide_characters_keep_the_columns() -> None:
    exits = {"image": 4, "text": 3, "decoder": [3, 3, 3]}
    rain = Caption("雨 cat", (6, 5, 2), 0.0, exits=exits, decisions=(), seconds={}, calls=1)
    line = draw.as_text(draw.drawing_of(rain, LAYOUT, TOKENIZER)).splitlines()[2]
    assert line == "decoder  雨     cat    end"  # one character, two columns


def test_svg_is_sound_and_escaped() -> None:
    drawing = draw.drawing_of(caption(), LAYOUT, TOKENIZER)
    root = ElementTree.fromstring(draw.as_svg(drawing, Image.new("RGB", (300, 200), "red")))
    texts = [e.text for e in root.iter() if e.tag.endswith("}text")]
    assert "a cat <&>" in texts and "cat" in texts and "2 of 4 layers" in texts
    fills = [e.get("fill") for e in root.iter() if e.tag.endswith("}rect")]
    assert fills.count(draw.BLUE) == 2 + 3 + 10  # layers run of image, text, and all decoder steps
    assert fills.count(draw.PALE) == 2 + 0 + 2
    (image,) = [e for e in root.iter() if e.tag.endswith("}image")]
    assert (image.get("href") or "").startswith("data:image/png;base64,")
    assert "<image" not in draw.as_svg(drawing)
