"""JSON of strangers: whatever it holds, a typed error that names the place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mue_edge.errors import InputFileError
from mue_edge.reading import finite, is_file, parse_json, read_json, read_text

DEEP = "[" * 100_000
HUGE = "1" + "0" * 400


def test_what_fits_is_read(tmp_path: Path) -> None:
    assert parse_json('{"a": [-9223372036854775808, 1e3, "b"]}', "x") == {"a": [-(1 << 63), 1000.0, "b"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [(DEEP, "nested too deep"), (HUGE, "401 digits"), ("{", "not JSON"), ("9" * 5000, "5000 digits")],
)  # fmt: skip
def test_what_does_not_fit_names_its_place(text: str, problem: str) -> None:
    with pytest.raises(InputFileError, match=f"^here.*{problem}"):
        parse_json(text, "here")


def _policy(path: Path) -> object:
    from mue_edge.bundle import policy_files

    return policy_files.read(path)


def _profile(path: Path) -> object:
    from mue_edge.measuring import profile

    return profile.read(path)


def _plan(path: Path) -> object:
    pytest.importorskip("torch")
    from mue_edge.export import plan

    return plan.read(path)


def _log(path: Path) -> object:
    from mue_edge.bundle import conformance

    return conformance.read(path, "")


def _config(path: Path) -> object:
    from mue_edge import models

    return models.read_config(path.rename(path.with_name("config.json")).parent)


def _manifest(path: Path) -> object:
    from mue_edge.bundle.folder import checked_manifest

    return checked_manifest(path.rename(path.with_name("manifest.json")).parent)


def _front(path: Path) -> object:
    pytest.importorskip("torch")
    from mue_edge.export.build import read_policies

    return read_policies(path.rename(path.with_name("policies.json")).parent)


def _prompts(path: Path) -> object:
    from mue_edge.export import prompts

    return prompts.tasks(path.rename(path.with_name("prompts.json")).parent)


def _edits(path: Path) -> object:
    from mue_edge.apps.alt_text.review import read_edits

    return read_edits(path)


def _table(path: Path) -> object:
    from mue_edge.apps.alt_text import table

    return table.read(path)


def _lines(path: Path) -> object:
    from mue_edge.calibrate.data import examples

    return examples.read(path, kind="jsonl")


def _coco(path: Path) -> object:
    from mue_edge.calibrate.data import examples

    return examples.read(path, kind="coco")


def _tokenizer(path: Path) -> object:
    from mue_edge.inputs import tokens

    return tokens.load(path)


READERS = (
    _policy, _profile, _plan, _log, _config, _manifest, _front, _prompts, _edits, _table,
    _lines, _coco, _tokenizer,
)  # fmt: skip


TEXTS = {"deep": DEEP, "huge": f'{{"beta": {HUGE}}}', "bytes": "\xff", "cut": "{"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("read", READERS)
def test_every_reader_of_json(read: Callable[[Path], object], text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputFileError, match=str(tmp_path)):
        read(path)


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("x" * 5000, "x\0"):
        assert not is_file(tmp_path / name)
    with pytest.raises(InputFileError, match="cannot be read: File name too long"):
        read_text(tmp_path / ("x" * 5000))
    os.mkfifo(tmp_path / "pipe")  # would block for ever
    with pytest.raises(InputFileError, match="not a file"):
        read_json(tmp_path / "pipe")


@given(st.one_of(st.integers(), st.floats()), st.integers(0, 400))
def test_finite(value: float, power: int) -> None:
    assert finite(1.5) and finite(10**300) and not finite(10**400) and not finite(float("nan"))
    finite(value * 10**power if isinstance(value, int) else value)
