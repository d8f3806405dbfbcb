"""Writes the figures of README.md and the docs from evidence/: `python tools/readme.py`.

A block stands between `<!-- evidence: NAME -->` and `<!-- /evidence -->`: NAME is that of a proof of
tools/proofs/, or NAME-PART. Below stands where its figures come from and, once a file that they depend on has
changed, that they are stale. A test compares every block with what its record says, so that no page can
show a figure that was not measured.
"""

from __future__ import annotations

from functools import partial

from pages import fill
from pages import names as blocks

from proofs import load, names
from proving import ROOT
from proving.record import read, source

PAGES = (
    ROOT / "README.md",
    ROOT / "apps" / "stickers" / "MODEL_CARD.md",
    ROOT / "apps" / "entailment" / "MODEL_CARD.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
NOT_MEASURED = "*Not measured yet: `python tools/evidence.py {}`.*\n"


def block(name: str) -> str:
    """What stands in a block. Raises KeyError for one that no proof renders."""
    proof = max((each for each in names() if f"{name}-".startswith(f"{each}-")), key=len, default="")
    part = name.removeprefix(proof).replace("-", "_")
    module = load(proof) if proof else None
    if not hasattr(module, f"render{part}"):
        raise KeyError(f"no proof renders the block {name}")
    record = read(proof)
    if record is None:
        return NOT_MEASURED.format(proof)
    text: str = getattr(module, f"render{part}")(record)
    return text.rstrip("\n") + "\n" + source(record)


def rendered(page: str) -> str:
    """The page with every block as the evidence has it."""
    return fill(page, {name: partial(block, name) for name in blocks(page)})


def main() -> None:
    for path in PAGES:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
