"""Readers of captioned pictures: each format, and errors that name file and line."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from mue_edge.calibrate.data.embedded import EmbeddedPicture
from mue_edge.calibrate.data.examples import Example, read, without_missing
from mue_edge.errors import InputFileError, UsageError


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _found(examples: list[Example]) -> dict[str, tuple[str, ...]]:
    return {str(e.picture): e.captions for e in examples}


def test_csv_merges_the_rows_of_a_picture(tmp_path: Path) -> None:
    table = _write(tmp_path / "a.csv", '\ufeffimage,caption\n1.png,"a  cat, asleep"\n2.png,a dog\n1.png,cat\n')
    expected = {str(tmp_path / "1.png"): ("a cat, asleep", "cat"), str(tmp_path / "2.png"): ("a dog",)}
    assert _found(read(table)) == expected
    assert read(table)[1].where == f"{table}, line 3"


def test_tsv_keeps_quotes_and_knows_other_columns(tmp_path: Path) -> None:
    table = _write(tmp_path / "a.tsv", 'source\tcaption\timage\nx\tsays "hi\t1.png\n')
    assert _found(read(table)) == {str(tmp_path / "1.png"): ('says "hi',)}


def test_json_lines_take_texts_and_lists(tmp_path: Path) -> None:
    table = _write(
        tmp_path / "a.jsonl", '{"image": "1.png", "caption": ["a", "b"]}\n\n{"image": "1.png", "caption": "c"}'
    )
    assert _found(read(table, images=tmp_path / "deep")) == {str(tmp_path / "deep" / "1.png"): ("a", "b", "c")}


def test_coco_joins_annotations_to_images(tmp_path: Path) -> None:
    data = {
        "images": [{"id": 7, "file_name": "x.jpg"}, {"id": 8, "file_name": "unlabelled.jpg"}],
        "annotations": [{"image_id": 7, "caption": "one"}, {"image_id": 7, "caption": "two"}],
    }
    examples = read(_write(tmp_path / "captions_val.json", json.dumps(data)))
    assert _found(examples) == {str(tmp_path / "x.jpg"): ("one", "two")}
    assert examples[0].id == "7"


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
def test_ofa_s_table_holds_its_pictures(tmp_path: Path, alphabet: object) -> None:
    pictures = [b"\xff\xd8\xff\xfb\xef" * 7, b"second"]
    assert callable(alphabet)
    lines = [
        b"\t".join([b"u%d" % i, b"i%d" % i, b"a cat && cat \xc3\xa9", b"cat&&dog", alphabet(p)]) + b"\r\n"
        for i, p in enumerate(pictures)
    ]
    table = tmp_path / "train.tsv"
    table.write_bytes(b"".join(lines))
    examples = read(table)
    assert [e.id for e in examples] == ["i0", "i1"]
    assert examples[0].captions == ("a cat", "cat é")
    assert [e.picture.read() for e in examples if isinstance(e.picture, EmbeddedPicture)] == pictures


def test_a_folder_with_its_table(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="it holds none"):
        read(tmp_path)
    _write(tmp_path / "captions.csv", "image,caption\n1.png,a\n")
    assert _found(read(tmp_path)) == {str(tmp_path / "1.png"): ("a",)}
    _write(tmp_path / "more.jsonl", "")
    with pytest.raises(InputFileError, match=r"captions\.csv, more\.jsonl"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,caption\n1.png,a\n2.png,  \n", "1 of 2 captions .*line 3: the caption is empty"),
        ("a.csv", "image,caption,caption\n1.png,a,b\n", "line 1: more than one column caption"),
        ("a.csv", "image,text\n1.png,a\n", "line 1: no column caption; the header has image, text"),
        ("a.csv", "image,caption\n1.png,a,b\n", "line 2: 3 columns, the header has 2"),
        ("a.csv", 'image,caption\n1.png,"a\n', "line 2: unexpected end"),
        ("a.csv", "image,caption\n,a\n", "line 2: '' names no picture"),
        ("a.csv", "image,caption\n", "has no captions"),
        ("a.jsonl", '{"image": "1", "caption": "a"}\n{"image": "1"', "line 2 is not JSON"),
        ("a.jsonl", '{"image": "1"}', "line 1: not an object with image and caption"),
        ("a.jsonl", '{"image": "1", "caption": 3}', "line 1: caption is neither"),
        ("a.jsonl", '{"image": 5, "caption": "a"}', "line 1: '5' names no picture"),
        ("a.json", "[]", "no COCO captions"),
        (
            "a.json", '{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}',
            r"annotations\[0\]: image_id '1' is not among",
        ),
        (
            "a.json", '{"images": [{"id": 1, "file_name": "a"}, {"id": 1}], "annotations": []}',
            r"images\[1\]: the id '1' stands there twice",
        ),
        ("a.tsv", "u\ti\ta cat\tlabels\taaaa\nu\ti\ta cat\n", "line 2: 3 columns; OFA"),
        ("a.tsv", "u\ti\ta\t\taaaa\nu\ti\tb\t\taaaaaaaa\n", "line 2: another picture of the id 'i'"),
        ("a.tsv", "u\ti\ta&&\tlabels\taaaa\n", "line 1: the caption is empty"),
        ("a.xyz", "", "--format coco|csv"),
    ],
)  # fmt: skip
def test_errors_name_the_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    table = _write(tmp_path / name, text)
    with pytest.raises(InputFileError, match=message.replace("|", r"\|")) as problem:
        read(table)
    assert str(table) in str(problem.value)


def test_foreign_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"image,caption\n1.png,caf\xe9\n")
    with pytest.raises(InputFileError, match="line 2: not UTF-8"):
        read(tmp_path / "a.csv")
    table = _write(tmp_path / "a.tsv", "u\ti\ta\t\t!!!!\n")
    (example,) = read(table)
    assert isinstance(example.picture, EmbeddedPicture)
    with pytest.raises(InputFileError, match="line 1: the picture is no base64"):
        example.picture.read()


def test_clusters_are_read_where_they_are_named(tmp_path: Path) -> None:
    table = _write(tmp_path / "a.csv", "cluster,image,caption\nfilm,1.png,a\n,2.png,b\n")
    assert [e.cluster for e in read(table)] == ["film", "2.png"]
    lines = '{"image": "1.png", "caption": "a", "cluster": "film"}\n{"image": "2.png", "caption": ["b", "c"]}\n'
    assert [e.cluster for e in read(_write(tmp_path / "a.jsonl", lines))] == ["film", "2.png"]
    with pytest.raises(InputFileError, match="cluster is no text"):
        read(_write(tmp_path / "b.jsonl", '{"image": "1.png", "caption": "a", "cluster": 3}\n'))


def test_a_forced_format(tmp_path: Path) -> None:
    table = _write(tmp_path / "captions.dat", "image,caption\n1.png,a\n")
    assert len(read(table, kind="csv")) == 1
    with pytest.raises(UsageError, match="folder, csv, tsv"):
        read(table, kind="parquet")
    with pytest.raises(UsageError, match="is a folder"):
        read(tmp_path, kind="csv")
    with pytest.raises(InputFileError, match="does not exist"):
        read(tmp_path / "none.csv")


def test_missing_pictures_are_named_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    examples = read(_write(tmp_path / "a.csv", "image,caption\n1.png,a\n2.png,b\n"))
    with pytest.raises(InputFileError, match=r"1 of 2 pictures are missing: .*line 3: .*2\.png"):
        without_missing(examples)
    kept, lines = without_missing(examples, skip=True)
    assert [e.id for e in kept] == ["1.png"]
    assert len(lines) == 1
    with pytest.raises(InputFileError, match="1 of 1"):
        without_missing(examples[1:], skip=True)
    many = _write(tmp_path / "b.csv", "image,caption\n" + "".join(f"m{i}.png,a\n" for i in range(14)))
    with pytest.raises(InputFileError, match=r"14 of 14 .*m9\.png is not there \(and 4 more\)"):
        without_missing(read(many))


def test_empty_captions_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,{'' if i % 2 else 'a'}\n" for i in range(24))
    with pytest.raises(InputFileError, match=r"12 of 24 captions are empty: .*line 21.* \(and 2 more\)$"):
        read(_write(tmp_path / "a.csv", "image,caption\n" + rows))


def test_a_name_that_no_file_can_have_is_a_missing_picture(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"image,caption\n{'a' * 5000}.png,a\n")
    with pytest.raises(InputFileError, match=r"t.csv, line 2: the picture .* is not there") as caught:
        without_missing(read(table))
    assert len(str(caught.value)) < 1000
