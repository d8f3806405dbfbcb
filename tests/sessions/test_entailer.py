"""A bundle that judges statements: what the loop and the host do equals the torch model's scoring."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mue_edge import targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from mue_edge.inputs import statements
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.search import Choice, SearchSettings, new_search, prompt_ids
from mue_edge.sessions.entailer import Entailer
from tests.apps.cli.run import picture

FULL = Policy("never", name="full")
ANSWERS = [[17], [28], [16]]


@pytest.fixture
def entailer(tiny_entail_bundle: Path) -> Iterator[Entailer]:
    with targets.open_entailer(tiny_entail_bundle, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("statement", ["a", "a b c", "g f e d c b a"])
@pytest.mark.parametrize(
    "policy",
    [
        FULL,
        Policy("fixed", {s: StackExit(depth=d) for s, d in (("image", 1), ("text", 2), ("decoder", 2))}),
        Policy("mue", {"image": StackExit(0.6), "text": StackExit(0.5)}),
        Policy("mue", {"image": StackExit(0.3), "text": StackExit(0.9)}),
    ],
)
def test_answers_equal_the_models(
    entailer: Entailer, tiny_entail_folder: Path, tmp_path: Path, statement: str, policy: Policy
) -> None:
    """Whatever the statement's length and the encoder's exits are: its padding takes no part. The decoder's
    depth is one for all words: the model tests a prompt's words together, the loop each by itself."""
    torch = pytest.importorskip("torch")
    from mue_edge import models

    file = picture(tmp_path / "a.png")
    found = entailer.entail(file, statement, policy=policy)
    pixels = torch.from_numpy(np.asarray(entailer.pixels(file)))
    words = torch.tensor([entailer.source(statement)])
    model = models.load(tiny_entail_folder)
    prompt = entailer.source(statement)[:-1]
    wanted = model.score(words, pixels, prompt, ANSWERS, policy=policy, form="prompt")
    assert list(found.probabilities.values()) == pytest.approx([math.exp(s) for s in wanted.scores], abs=1e-5)
    assert found.answer == ("no", "yes", "maybe")[wanted.best]
    assert found.exits["decoder"] == [wanted.exit] * len(prompt)
    encoded = model.encode(words, pixels, decomposed=True, policy=policy)
    assert {k: found.exits[k] for k in ("image", "text")} == {k: v[0] for k, v in encoded.exits.items()}


@pytest.mark.parametrize("ends", [[3], [1, 2, 3]])
def test_answers_of_a_joint_encoder_equal_the_models(
    joint_entail_folder: Path, tmp_path: Path, ends: list[int]
) -> None:
    """Picture and statement in one sequence, of which the statement's padding takes no part."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from mue_edge import models
    from mue_edge.export.build import export

    made = export(joint_entail_folder, tmp_path / "bundle", options={"ends": {"encoder": ends}})
    assert made.bundle.manifest.evidence.rung == "loop"
    model, file = models.load(joint_entail_folder), picture(tmp_path / "a.png")
    with targets.open_entailer(tmp_path / "bundle", threads=1) as entailer:
        pixels = torch.from_numpy(np.asarray(entailer.pixels(file)))
        for statement in ("g f e d c b a", "a", "b c"):
            found = entailer.entail(file, statement, trace=True)
            source = entailer.source(statement)
            wanted = model.score(torch.tensor([source]), pixels, source[:-1], ANSWERS, form="prompt")
            likely = [math.exp(score) for score in wanted.scores]
            assert list(found.probabilities.values()) == pytest.approx(likely, abs=1e-5)
            encoded = model.encode(torch.tensor([source]), pixels, decomposed=False)
            scores = [d.scores[0] for d in found.decisions if d.stack == "encoder"]
            assert scores == pytest.approx([encoded.scores["encoder"][0][i - 1] for i in ends], abs=1e-5)


def test_the_bundle_was_verified_with_texts_of_several_lengths(tiny_entail_bundle: Path) -> None:
    from mue_edge.targets import golden

    bundle = open_bundle(tiny_entail_bundle)
    assert bundle.manifest.evidence.rung == "loop"
    assert bundle.manifest.task == "entail"
    _, logs = golden.read(bundle)
    assert len({len(entry.source) for entry in logs}) > 2
    assert any(entry.log.depths["text"] < 3 for entry in logs)


def test_only_the_answers_are_scored(tiny_entail_bundle: Path) -> None:
    segments = open_bundle(tiny_entail_bundle).manifest.segments
    assert segments["head"].outputs["top_values"].shape == (1, 3)


def test_a_shorter_statement_after_a_longer_one(entailer: Entailer, tmp_path: Path) -> None:
    """Nothing of the longer one stays in the buffers."""
    file = picture(tmp_path / "a.png")
    alone = entailer.entail(file, "a b").probabilities
    entailer.entail(file, "g f e d c b a")
    assert entailer.entail(file, "a b").probabilities == alone


@pytest.fixture
def captioned(tiny_captions_bundle: Path) -> Iterator[Entailer]:
    with targets.open_entailer(tiny_captions_bundle, threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    "policy",
    [FULL, Policy("fixed", {"image": StackExit(depth=1), "text": StackExit(depth=2), "decoder": StackExit(depth=2)})],
)
@pytest.mark.parametrize("caption", [None, "D e-f", "a b c d e f"])
def test_answers_with_a_caption_equal_the_models(
    captioned: Entailer, tiny_entail_folder: Path, tmp_path: Path, policy: Policy, caption: str | None
) -> None:
    torch = pytest.importorskip("torch")
    from mue_edge import models

    file = picture(tmp_path / "a.png")
    filled = " z b c y" if caption is None else f" z {caption.lower().replace('-', ' ')} y b c x"
    wanted_ids = (0, *captioned.tokenizer.encode(filled), 2)
    assert captioned.source("b c", caption) == wanted_ids and 3 not in wanted_ids
    found = captioned.entail(file, "b c", caption=caption, policy=policy)
    pixels = torch.from_numpy(np.asarray(captioned.pixels(file)))
    scored = models.load(tiny_entail_folder).score(
        torch.tensor([wanted_ids]), pixels, wanted_ids[:-1], [[17], [28], [16]], policy=policy, form="prompt"
    )
    likely = [math.exp(score) for score in scored.scores]
    assert list(found.probabilities.values()) == pytest.approx(likely, abs=1e-5)


def test_a_caption_changes_the_answer(captioned: Entailer, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    given = [captioned.entail(file, "a", caption=said).probabilities["yes"] for said in (None, "b", "c")]
    assert len(set(given)) == 3


def test_what_people_write_fills_no_field(captioned: Entailer) -> None:
    """Braces that stand in a statement or a caption are read as they were written."""
    ids = captioned.tokenizer.encode
    assert captioned.source("a {caption}", "b") == (0, *ids(" z b y a {caption} x"), 2)
    assert captioned.source("a", "{hypothesis} b") == (0, *ids(" z {hypothesis} b y a x"), 2)


def test_captions_that_cannot_be_read(captioned: Entailer, entailer: Entailer, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    with pytest.raises(UsageError, match="the caption ' ' says nothing"):
        captioned.entail(file, "a", caption=" ")
    with pytest.raises(UsageError, match=r"caption\), or .* export MODEL --text-length 17"):
        captioned.entail(file, "a", caption="b " * 11)
    with pytest.raises(UsageError, match="was not trained with captions"):
        entailer.entail(file, "a", caption="b")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"prompt": ' can image and text1 " {caption} " imply " {hypothesis} "?'}, "holds {caption}, which nothing"),
        ({"prompt": " does it show {statement}?"}, "has to hold {hypothesis} once"),
        ({"caption_prompt": " {hypothesis} {caption} {place}"}, "holds {place}, which nothing fills"),
        ({"caption_prompt": " {hypothesis}"}, "has to hold {caption} once"),
    ],
)
def test_a_field_that_nothing_fills_is_an_error(
    tiny_entail_bundle: Path, entailer: Entailer, tmp_path: Path, texts: dict[str, str], message: str
) -> None:
    """When the bundle is opened, and, whoever made the manifest, when a statement is read."""
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_entail_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | texts))
    with pytest.raises(InputFileError, match=f"manifest.json: the source text .*{message}.*import"):
        open_bundle(bundle)
    entailer.bundle = replace(entailer.bundle, manifest=replace(entailer.bundle.manifest, **texts))
    with pytest.raises(UsageError, match=message):
        entailer.source("a", "b" if "caption_prompt" in texts else None)


def test_statements_are_cleaned_as_ofa_does(entailer: Entailer) -> None:
    assert statements.clean("  ,.A well-known\t<PERSON>/dog  ") == ",.a well known person dog"
    assert statements.clean("#A  b") == "a b"
    assert len(statements.clean("a " * 200).split()) == 80
    assert entailer.source("!A b") == (0, 29, 4, 5, 28, 2)
    assert entailer.unknown("a xyz") == ("xyz",)


KEPT = ("sign of the horns", "a button (blood type)")


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("A tiger", "tiger"), ("the tiger", "tiger"), ("an apple on a plate", "apple on plate"),
        ("tiger", "tiger"), ("a sign of the horns: dark", "sign of the horns: dark"),
        ("A button (blood type)", "a button (blood type)"), ("a button", "button"), ("a", "a"),
        ("the a button (blood type)", "a button (blood type)"), ("the an", "the an"), ("a-b", "b"),
        ("banana the", "banana"), ("theatre", "theatre"), (".The cat", "cat"), ("", ""),
    ],
)  # fmt: skip
def test_articles_stay_where_the_model_knows_them(said: str, read: str) -> None:
    assert statements.Template("{hypothesis}", articles_in=KEPT).clean(said) == read
    assert statements.Template("{hypothesis}", articles_in=()).clean("sign of the horns") == "sign of horns"
    assert statements.Template("{hypothesis}").clean(said) == statements.clean(said)  # OFA's own


def test_words_that_the_model_lacks(entailer: Entailer, tmp_path: Path) -> None:
    """Pieces that spell a word do not make it one that the model was trained on."""
    file = picture(tmp_path / "a.png")
    assert entailer.entail(file, "a b, xyz").unknown == ("xyz",)
    words = replace(
        entailer.bundle.manifest, words="a b c", articles_in=("a d",), caption_prompt=" {caption} {hypothesis}"
    )
    entailer.bundle = replace(entailer.bundle, manifest=words)
    assert entailer.entail(file, "the b, d!", caption="C e").unknown == ("d", "e")
    assert entailer.source("the b") == entailer.source("b")


@pytest.mark.parametrize(("statement", "message"), [(" ", "says nothing"), ("a " * 8, "export MODEL --text-length 12")])
def test_statements_that_cannot_be_judged(entailer: Entailer, tmp_path: Path, statement: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        entailer.entail(picture(tmp_path / "a.png"), statement)


def test_bundles_are_opened_for_what_they_do(tiny_entail_bundle: Path, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="mue-edge entail"):
        targets.open(tiny_entail_bundle)
    with pytest.raises(UsageError, match="mue-edge caption"):
        targets.open_entailer(tiny_bundle)


def test_what_was_closed_says_so(tiny_entail_bundle: Path) -> None:
    closed = targets.open_entailer(tiny_entail_bundle, threads=1)
    closed.close()
    closed.close()
    with pytest.raises(UsageError, match="was closed"):
        closed.entail("nowhere.png", "")


def test_a_runtime_without_texts_says_so(tiny_entail_bundle: Path, tmp_path: Path) -> None:
    from tests.made_bundle import Clock, Paced

    without = Entailer(open_bundle(tiny_entail_bundle), Paced(Clock()))
    with pytest.raises(EnvironmentLacksError, match="takes pictures only"):
        without.entail(picture(tmp_path / "a.png"), "a")


def test_a_choice_is_one_step() -> None:
    search = new_search(SearchSettings(max_length=0, answers=(7, 9, 8)), (0, 4, 2))
    assert isinstance(search, Choice)
    assert search.tokens == [[0]]
    assert search.advance([((2, 0, 1), (-0.1, -3.0, -4.0), 0.0)]) is None
    assert [h.tokens for h in search.hypotheses()] == [(8,), (7,), (9,)]


def test_the_decoder_may_be_fed_the_statement_alone() -> None:
    assert prompt_ids(0, (), (0, 4, 5, 2)) == (0,)
    assert prompt_ids(0, (1, 1), (0, 4, 5, 2)) == (0, 4, 5)
    assert prompt_ids(0, (2, 3), (0, 9, 4, 5, 8, 7, 2)) == (0, 4, 5)
    assert prompt_ids(0, (2, 3), (0, 9, 2)) == (0,)


def test_the_source_text_is_fed_first() -> None:
    search = new_search(SearchSettings(max_length=9, answers=(7, 9), fed=(1, 1)), (0, 4, 5, 2))
    row = ((0, 1), (-0.1, -3.0), 0.0)
    fed = [search.tokens[0][-1]]
    while search.advance([row]) is not None:
        fed.append(search.tokens[0][-1])
    assert fed == [0, 4, 5]
    assert [h.tokens for h in search.hypotheses()] == [(7,), (9,)]


def test_a_decoder_that_reads_bos_alone_has_one_step_and_nothing_to_fill(
    tiny_entail_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    from mue_edge import models
    from mue_edge.export.plan import cut_request, make
    from mue_edge.export.prompts import read_prompt

    asked = json.loads((tiny_entail_folder / "prompts.json").read_text())
    asked["entail"]["decoder"] = "bos"
    (tmp_path / "prompts.json").write_text(json.dumps(asked))
    prompt, model = read_prompt(tmp_path, "entail"), models.load(tiny_entail_folder)
    plan = make(model, targets.target("host"), (48, 48), prompt.options)
    answers = tuple(prompt.answers.values())
    request = cut_request(plan, None, models.describe(model), answers, prompt.fed)
    made = models.family_of(model).cut(model, request)
    assert made.layout.slots == 1
    assert not any(piece.name.startswith("fill") for piece in made.pieces)
