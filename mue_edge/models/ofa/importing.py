"""Writing a model folder from a checkpoint, or from a size's name and a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_folder
from mue_edge.models import read_config
from mue_edge.models.ofa import prompts, tokenizer
from mue_edge.models.ofa.checkpoint import Converted, convert, random_weights
from mue_edge.models.ofa.checkpoint_contents import Settings
from mue_edge.models.ofa.checkpoint_files import Stored, read
from mue_edge.models.ofa.config import SIZES, OFAConfig
from mue_edge.models.ofa.model import WEIGHTS
from mue_edge.models.weights import save

# Tasks by fairseq's and ModelScope's names. Pretraining has captions among its tasks.
CAPTION_TASKS = ("caption", "caption_stage1", "image-captioning", "unify_task")
ENTAIL_TASKS = ("snli_ve", "visual-entailment")


@dataclass(frozen=True)
class Request:
    """What to import; the fields are the command's options. Either `checkpoint` or `size` is given."""

    checkpoint: Path | None = None
    config: Path | None = None
    tokenizer: Path | None = None
    task: str | None = None
    prompt: str | None = None
    image_size: int | None = None
    allow_pickle: bool = False
    decomposed: bool | None = None
    size: str | None = None
    seed: int = 0
    ema: bool = False


@dataclass(frozen=True)
class Imported:
    """What was written. `task`: what its prompt asks; "" if it has none. `captions`: whether it reads one."""

    config: OFAConfig
    parameters: int
    notes: tuple[str, ...]
    task: str
    captions: bool


def write(request: Request, out: str | Path) -> Imported:
    """Make the model folder `out`. On any error nothing is written, and an older folder stays.

    Raises InputFileError for a checkpoint or vocabulary that does not fit, UsageError for options
    that do not.
    """
    _check_out(Path(out))
    if request.checkpoint is not None:
        stored = read(request.checkpoint, request.config, allow_pickle=request.allow_pickle, ema=request.ema)
        made = convert(stored, decomposed=request.decomposed, image_size=request.image_size)
    else:
        stored, made = Stored(Path(), {}, Settings({})), _random(request)
    config, notes = made.config, list(made.notes)
    words, folder = None, request.tokenizer or stored.tokenizer
    if folder is not None:
        words, more = tokenizer.read(folder, config.vocab_size, codes=made.codes, bins=made.bins)
        notes += more
    else:
        notes.append(
            f"no vocabulary, so captions will be ids; --tokenizer DIR gives words: {tokenizer.WHERE}"
        )
    task = request.task or _task(stored.task, notes)
    said = prompts.said_by(stored.settings)
    texts = prompts.make(task, config, words, request.prompt, said)
    if texts is None:
        if request.prompt is not None:
            raise UsageError(f"a prompt needs the vocabulary: --tokenizer DIR; {tokenizer.WHERE}")
        notes.append("no prompt: without the vocabulary its ids are not known")
    elif task == "entail" and said.decoder is None:
        notes.append(
            "the checkpoint does not say what its decoder reads before the answer (prompt_type); taken: "
            "prev_output, as in OFA's SNLI-VE scripts"
        )
    captions = "with_caption" in (texts or {}).get(task, {})
    if captions:
        notes.append(
            "trained with a caption of the picture in the text: give one with `mue-edge entail --caption "
            "TEXT`, else the statement-only text is used"
        )
    with atomic_folder(out, "config.json") as work:
        save(made.weights, work / WEIGHTS)
        if words is not None:
            words.save(work / "tokenizer.json")
        if texts is not None:
            (work / "prompts.json").write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")
        (work / "config.json").write_text(json.dumps(config.to_json(), indent=1) + "\n", encoding="utf-8")
    return Imported(
        config, sum(value.numel() for value in made.weights.values()), tuple(notes),
        "" if texts is None else task, captions,
    )  # fmt: skip


def _task(name: str, notes: list[str]) -> str:
    """The task that fairseq or ModelScope call by that name; captions, with a note, where it is another."""
    if name in ENTAIL_TASKS:
        return "entail"
    if name and name not in CAPTION_TASKS:
        notes.append(
            f"it was trained for the task {name!r}, which is not run here; taken: captions "
            "(for statements about pictures: --task entail)"
        )
    return "caption"


def _random(request: Request) -> Converted:
    if request.size not in SIZES:
        raise UsageError(f"--random {request.size}: known sizes are {', '.join(SIZES)}")
    if request.config is not None:
        raise UsageError("--random takes a named size, so --config does not apply")
    if request.ema:
        raise UsageError("--random makes weights, so --ema does not apply")
    config = replace(SIZES[request.size], decomposed=bool(request.decomposed))
    if request.image_size is not None:
        config = replace(config, image_size=request.image_size)
    return Converted(config, random_weights(config, request.seed))


def _check_out(out: Path) -> None:
    """A Hugging Face folder also holds a config.json: only a model folder of ours may be replaced."""
    if not (out / "config.json").exists():
        return
    try:
        read_config(out)
    except InputFileError as problem:
        raise UsageError(
            f"{out} exists and is not a model folder of mue-edge; choose another --out"
        ) from problem
