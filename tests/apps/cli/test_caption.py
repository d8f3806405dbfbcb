"""`mue-edge caption`: several pictures, traces, and what is wrong with either."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from mue_edge.loop.protocol import Answer, Request
from mue_edge.targets.host import HostRuntime
from tests.apps.cli.conftest import Bundled
from tests.apps.cli.run import Runner, picture, stdin


def test_one_picture_gives_its_text(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    done = run("caption", tiny_bundle, pictures / "0.png")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1 and done.out.strip()


def test_a_bad_picture_does_not_stop_the_others(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    done = run("caption", tiny_bundle, pictures, pictures / "none.png", "--json")
    assert done.code == 4
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [Path(r["file"]).name for r in records] == ["0.png", "1.png", "2.png"]
    errors = done.err.splitlines()
    assert len(errors) == 2 and "1b-damaged.png" in errors[0] and "none.png does not exist" in errors[1]


def test_a_record_tells_how_the_caption_came_about(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    record = run("caption", tiny_bundle, pictures / "0.png", "--json", "--trace").json()
    assert set(record["exits"]) == {"image", "text", "decoder"}
    assert record["exits"]["image"] == 3 and set(record["exits"]["decoder"]) == {3}
    assert len(record["exits"]["decoder"]) == len(record["tokens"])
    assert record["decoder_layers"] == 3 and record["calls"] > len(record["tokens"]) * 5
    assert {"preprocess", "stem", "decoder", "total"} <= set(record["seconds"])
    # Full depth: every score was read, none had a threshold.
    assert {d["threshold"] for d in record["decisions"]} == {None}
    keys = ["stack", "depth", "step", "scores", "gaps", "threshold", "exit", "readings"]
    assert all(list(decision) == keys for decision in record["decisions"])
    assert sum(d["stack"] == "decoder" for d in record["decisions"]) == 3 * len(record["tokens"])


def test_a_policy_file_runs_fewer_layers(run: Runner, tiny_bundle: Path, pictures: Path, early: Path) -> None:
    full = run("caption", tiny_bundle, pictures / "0.png", "--json", "--policy", "full").json()
    fewer = run("caption", tiny_bundle, pictures / "0.png", "--json", "--policy", early).json()
    assert fewer["decoder_layers"] < full["decoder_layers"] == 3
    assert fewer["calls"] < full["calls"]


def test_a_list_on_standard_input(
    run: Runner, tiny_bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin(f"{pictures / '2.png'}\n{pictures / '0.png'}\n".encode()))
    lines = run("caption", tiny_bundle, "-").out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(pictures / "2.png"), str(pictures / "0.png")]


def test_a_picture_on_standard_input(
    run: Runner, tiny_bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pictures / "0.png"
    expected = run("caption", tiny_bundle, one).out
    for kind in ("PNG", "GIF", "BMP", "WEBP"):
        data = io.BytesIO()
        Image.open(one).save(data, kind, **({"lossless": True} if kind == "WEBP" else {}))
        monkeypatch.setattr(sys, "stdin", stdin(data.getvalue()))
        done = run("caption", tiny_bundle, "-")
        assert (done.code, done.err) == (0, "") and (done.out == expected or kind == "GIF")
    monkeypatch.setattr(sys, "stdin", stdin(one.read_bytes()))
    both = run("caption", tiny_bundle, "-", pictures / "1.png").out.splitlines()
    assert both[0] == f"standard input: {expected.strip()}"
    monkeypatch.setattr(sys, "stdin", stdin(one.read_bytes()[:200]))
    assert "standard input cannot be decoded" in run("caption", tiny_bundle, "-").error(4)


def test_what_is_neither_a_picture_nor_a_list(
    run: Runner, tiny_bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin(b"II*\0" + bytes(range(256)) * 50))
    assert "neither a picture" in run("caption", tiny_bundle, "-").error(4)
    monkeypatch.setattr(sys, "stdin", None)
    assert "closed" in run("caption", tiny_bundle, "-").error(2)
    shutil.copy(pictures / "0.png", pictures / "BM and GIF89a")  # a name that begins like a picture
    monkeypatch.chdir(pictures)
    monkeypatch.setattr(sys, "stdin", stdin(b"BM and GIF89a\n"))
    assert run("caption", tiny_bundle, "-").code == 0


def test_a_terminal_sees_the_text_grow(
    run: Runner, tiny_bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run("caption", tiny_bundle, pictures / "0.png").out
    monkeypatch.setattr(sys.stdout.__class__, "isatty", lambda self: True)
    written: list[str] = []
    echo = __import__("click").echo
    monkeypatch.setattr("click.echo", lambda *a, **k: (written.extend(map(str, a)), echo(*a, **k)))
    live = run("caption", tiny_bundle, pictures / "0.png").out
    assert live == plain
    assert len(written) > 3  # a write a token


def test_trace_draws_layers_and_tokens(
    run: Runner, tiny_bundle: Path, pictures: Path, early: Path, tmp_path: Path
) -> None:
    svg = tmp_path / "trace.svg"
    done = run("caption", tiny_bundle, pictures / "0.png", "--policy", early, "--trace", "--svg", svg)
    assert done.code == 0
    assert "layer 3" in done.out and "image    " in done.out and "score" in done.out
    assert "·" in done.out and "█" in done.out
    root = ElementTree.parse(svg).getroot()
    assert root.tag.endswith("svg")
    assert [e for e in root.iter() if e.tag.endswith("image")]  # the picture is in it


def test_svg_is_for_one_picture(run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    run("caption", tiny_bundle, pictures, "--svg", tmp_path / "x.svg").error(2)
    assert not (tmp_path / "x.svg").exists()


def test_a_beam_beyond_the_bundle(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    assert "--beam 3" in run("caption", tiny_bundle, pictures / "0.png", "--beam", "3").error(2)


def test_unknown_and_foreign_policies(run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    one = pictures / "0.png"
    assert "(full)" in run("caption", tiny_bundle, one, "--policy", "fast").error(2)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"rule": "mue", "theta_decoder": 0.9, "plan": "0" * 16}))
    assert "calibrate again" in run("caption", tiny_bundle, one, "--policy", other).error(2)
    other.write_text(json.dumps({"rule": "mue", "theta": 0.9}))
    assert "unknown keys" in run("caption", tiny_bundle, one, "--policy", other).error(4)
    other.write_text(json.dumps({"schema": 2, "rule": "mue", "exits": {"imgae": {"theta": 0.9}}}))
    said = run("caption", tiny_bundle, one, "--policy", other).error(2)
    assert "names the stacks imgae" in said and "image, text, decoder" in said


def test_empty_folder(run: Runner, tiny_bundle: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in run("caption", tiny_bundle, empty).error(4)
    done = run("caption", tiny_bundle, empty, picture(tmp_path / "a.png"))
    assert str(empty) in done.error(4) and "a.png: " in done.out


def test_what_is_no_bundle(run: Runner, tiny_model_folder: Path, pictures: Path) -> None:
    error = run("caption", tiny_model_folder, pictures / "0.png").error(4)
    assert error.endswith(f"mue-edge export {tiny_model_folder}")
    error = run("caption", pictures / "nothing", pictures / "0.png").error(4)
    for words in ("manifest.json", "(stickers, stickers-entail)", "a picture", "mue-edge list", "mue-edge export"):
        assert words in error


def test_a_deadline_is_in_the_record(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    one = pictures / "0.png"
    plain = run("caption", tiny_bundle, one, "--json").json()
    done = run("caption", tiny_bundle, one, "--json", "--deadline", "60s")
    record = done.json()
    assert "deadline" not in plain and record["tokens"] == plain["tokens"]
    assert record["deadline"]["limit"] == 60 and 0 < record["deadline"]["finished"] < 60
    assert record["deadline"]["walked"] == [{"stack": "image", "step": 0, "depth": 0, "policy": "full"}]
    assert (record["deadline"]["forced"], record["deadline"]["cut_short"]) == (0, False)
    # This front has full depth only: what can help, and how to get more.
    assert done.err.startswith("note: ") and "only end early; mue-edge calibrate" in done.err


def test_a_deadline_that_cannot_be_met_ends_the_caption(
    run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    svg = tmp_path / "cut.svg"
    done = run("caption", tiny_bundle, pictures / "0.png", "--deadline", "1us", "--svg", svg)
    assert (done.code, done.out) == (0, "\n")
    assert "0.001 ms: took" in done.err and "cut short" in done.err
    traced = run("caption", tiny_bundle, pictures / "0.png", "--deadline", "1us", "--trace")
    assert "deadline 0.001 ms: took" in traced.out and "0.00 of 3 layers a token" in traced.out
    assert "cut short" in svg.read_text(encoding="utf-8")


def test_what_is_no_deadline(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    one = pictures / "0.png"
    for text, says in (("50%", "50ms or 0.05s"), ("fifty", "neither"), ("nan", "neither"), ("0ms", "0")):
        assert says in run("caption", tiny_bundle, one, "--deadline", text).error(2)
    assert "-3ms" in run("caption", tiny_bundle, one, "--deadline=-3ms").error(2)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"theta_decoder": math.nan}, "not a finite"), ({"theta_image": math.inf}, "not a finite"),
        ({"tau": math.nan}, "not a finite"), ({"tau": -1}, "tau = -1"),
        ({"beta": 1.01}, "beta = 1.01"), ({"beta": -0.1}, "beta = -0.1"),
    ],
)  # fmt: skip
def test_policies_that_are_none(
    run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path, policy: dict[str, float], says: str
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    assert says in run("caption", tiny_bundle, pictures / "0.png", "--policy", file).error(4)


@pytest.mark.parametrize("policy", [{}, {"theta_image": 1, "theta_text": 1, "theta_decoder": 1.5, "beta": 1}])
def test_a_theta_of_one_or_none_never_leaves(
    run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path, policy: dict[str, float]
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    one = pictures / "0.png"
    mine, full = (run("caption", tiny_bundle, one, "--json", "--policy", p).json() for p in (file, "full"))
    for name in ("text", "tokens", "exits", "calls"):
        assert mine[name] == full[name]


@pytest.mark.parametrize("port", ["score", "gap"])
def test_a_runtime_that_answers_nan_gives_no_caption(
    run: Runner, tiny_bundle: Path, pictures: Path, early: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    execute = HostRuntime.execute

    def broken(self: HostRuntime, request: Request) -> Answer:
        answer = execute(self, request)
        if request.run.startswith("decoder") and answer.scalars:
            return Answer({**answer.scalars, port: [math.nan]}, answer.candidates, answer.now)
        return answer

    monkeypatch.setattr(HostRuntime, "execute", broken)
    done = run("caption", tiny_bundle, pictures / "0.png", "--policy", early)
    assert "mue-edge verify" in done.error(6)
    assert done.out == ""


def test_what_the_first_argument_may_be(
    run: Runner, bundled: Bundled, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle's folder, a bundled model's name, or a picture, a folder of them or a list for the default."""
    one, two = (str(bundled.pictures / f"{i}.png") for i in range(2))
    text = run("caption", tiny_bundle, one).out
    for words in ((one,), ("stickers", one)):
        done = run("caption", *words)
        assert (done.code, done.out) == (0, text), words
    assert run("caption", one, two).out.splitlines()[0] == f"{one}: {text.strip()}"
    (bundled.pictures / "1b-damaged.png").unlink()
    assert len(run("caption", bundled.pictures).out.splitlines()) == 3
    assert len(run("caption", "stickers", bundled.pictures, one).out.splitlines()) == 4
    monkeypatch.setattr(sys, "stdin", stdin(f"{two}\n{one}\n".encode()))
    assert [line.partition(": ")[0] for line in run("caption", "-").out.splitlines()] == [two, one]
    assert bundled.exports == ["stickers-host"]


def test_a_damaged_picture_first(run: Runner, bundled: Bundled) -> None:
    done = run("caption", bundled.pictures / "1b-damaged.png", bundled.pictures / "0.png")
    assert "1b-damaged.png" in done.err.splitlines()[-1] and "0.png: " in done.out and done.code == 4
    (bundled.pictures / "renamed").write_bytes((bundled.pictures / "0.png").read_bytes())
    assert run("caption", bundled.pictures / "renamed").code == 0  # judged by its bytes


def test_a_folder_of_that_name_goes_first(run: Runner, bundled: Bundled, tiny_model_folder: Path) -> None:
    one = bundled.pictures / "0.png"
    shutil.copytree(tiny_model_folder, "stickers")
    assert run("caption", "stickers", one).error(4).endswith("mue-edge export stickers")
    shutil.rmtree("stickers")
    shutil.copytree(bundled.pictures, "stickers")
    done = run("caption", "stickers", one)
    assert done.code == 0 and "write ./stickers" in done.err
    assert run("caption", "stickers").error(2).endswith("mue-edge caption ./stickers")
    assert len(run("caption", "./stickers").out.splitlines()) == 3
    shutil.rmtree("stickers")
    exported = len(bundled.exports)
    shutil.copytree(bundled.kept()[0], "stickers")
    manifest = json.loads(Path("stickers/manifest.json").read_text())
    assert manifest["chosen"] == "full"
    manifest["front"][0]["name"] = manifest["chosen"] = "mine"
    Path("stickers/manifest.json").write_text(json.dumps(manifest))
    assert "(mine)" in run("caption", "stickers", one, "--policy", "none").error(2)
    assert len(bundled.exports) == exported == 1


def test_first_arguments_that_are_nothing(
    run: Runner, bundled: Bundled, tiny_bundle: Path, tiny_model_folder: Path
) -> None:
    one = bundled.pictures / "0.png"
    for name in ("my-bundel", "none.png", "a\0b", "x" * 300, str(tiny_bundle / "manifest.json")):
        for words in ((name,), (name, one)):
            assert "mue-edge list" in run("caption", *words).error(4), words
    Path("empty").mkdir()
    assert "empty is none of" in run("caption", "empty", one).error(4)
    os.mkfifo("pipe")
    assert "pipe is none of" in run("caption", "pipe").error(4)
    for name in (str(tiny_bundle), "stickers"):
        assert f"mue-edge caption {name} PICTURE" in run("caption", name).error(2)
    assert run("caption", tiny_model_folder).error(4).endswith(f"mue-edge export {tiny_model_folder}")
    assert f"mue-edge caption {tiny_bundle} {one}" in run("caption", one, tiny_bundle).error(2)
    assert "mue-edge entail stickers-entail PICTURE" in run("caption", "stickers-entail", one).error(2)
    assert run("caption").code == 2
    assert bundled.exports == []
