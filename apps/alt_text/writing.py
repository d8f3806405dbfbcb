"""Which pictures still lack alt text, and captioning those: each kind of bytes once, saved as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mue_edge.apps.alt_text.table import Table, TableEntry, clean
from mue_edge.errors import InputFileError
from mue_edge.files import sha256
from mue_edge.inputs import image
from mue_edge.inputs.image import LoadedPicture
from mue_edge.loop.policy import Policy
from mue_edge.sessions.captioner import Captioner

# The table is saved this often while captions are made, and never for more than a share of the time.
SAVE_SECONDS = 5.0
SAVE_SHARE = 20


@dataclass
class AltTextWork:
    """What has alt text (`table`, by file), what is to do (`todo`: hash → its files), what cannot be read
    (`problems`: file → why). Captioning moves work from one to the other."""

    table: Table
    todo: dict[str, list[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def survey(pictures: Mapping[str, Path], table: Table, *, again: bool = False) -> AltTextWork:
    """Compare the pictures with the table. A copy or a renamed file has its alt text already.

    again: what no person wrote is to be done anew, and stays until it is. Entries of files that are gone are
    left out.
    """
    work = AltTextWork({})
    by_hash = {entry.sha256: entry for entry in table.values()}
    by_hash |= {entry.sha256: entry for entry in table.values() if entry.edited}
    for file, path in pictures.items():
        try:
            digest = sha256(path)
        except InputFileError as problem:
            work.problems[file] = str(problem)
            continue
        entry = table.get(file)
        if entry is None or entry.sha256 != digest:
            entry = by_hash.get(digest)
        if entry is not None:
            work.table[file] = replace(entry, file=file)
        if entry is None or (again and not entry.edited):
            work.todo.setdefault(digest, []).append(file)
    return work


def caption(
    work: AltTextWork,
    pictures: Mapping[str, Path],
    open_captioner: Callable[[], Captioner],
    policy: str | Path | None,
    save: Callable[[Table], None],
) -> Iterator[str]:
    """Caption what is to be done; yields a file a caption or problem. `save` gets the table now and then,
    and at the end, whatever ends it. The captioner is opened for the first picture that can be read."""
    captioner: Captioner | None = None
    chosen: Policy | None = None
    due = time.monotonic() + SAVE_SECONDS
    try:
        for digest, files in list(work.todo.items()):
            try:
                picture = image.load(pictures[files[0]])
            except InputFileError as problem:
                work.problems |= dict.fromkeys(files, str(problem))
            else:
                if captioner is None or chosen is None:
                    captioner = open_captioner()
                    chosen = captioner.policy(policy)
                entry = describe(captioner, chosen, picture, files[0], digest)
                del picture  # else the next one is loaded beside it
                work.table |= {file: replace(entry, file=file) for file in files}
            del work.todo[digest]
            if time.monotonic() >= due:
                started = time.monotonic()
                save(work.table)
                due = time.monotonic() + max(SAVE_SECONDS, SAVE_SHARE * (time.monotonic() - started))
            yield files[0]
    finally:
        save(work.table)
        if captioner is not None:
            captioner.close()


def describe(captioner: Captioner, policy: Policy, picture: LoadedPicture, file: str, digest: str) -> TableEntry:
    """The entry of one picture."""
    result = captioner.caption(picture, policy=policy)
    manifest = captioner.bundle.manifest
    model = f"{manifest.name} {str(manifest.model.get('sha256', ''))[:12]} {manifest.plan_hash}"
    alt, score, name = clean(result.text), round(result.score, 4), policy.name or policy.rule
    return TableEntry(file, digest, alt, score, dict(result.exits), name, model)
