"""The content of a model folder from a checkpoint, or from a size's name and a seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mue_edge.errors import UsageError
from mue_edge.models.importing import ImportRequest, ModelContent
from mue_edge.models.ofa import prompts
from mue_edge.models.ofa.config import SIZES
from mue_edge.models.ofa.importing import tokenizer
from mue_edge.models.ofa.importing.contents import CheckpointSettings, Stored
from mue_edge.models.ofa.importing.files import read
from mue_edge.models.ofa.importing.weights import Converted, convert, random_weights

# Tasks by fairseq's and ModelScope's names. Pretraining has captions among its tasks.
CAPTION_TASKS = ("caption", "caption_stage1", "image-captioning", "unify_task")
ENTAIL_TASKS = ("snli_ve", "visual-entailment")


def content(request: ImportRequest) -> ModelContent:
    """The model folder of a checkpoint or of random weights.

    Raises InputFileError for a checkpoint or vocabulary that does not fit, UsageError for options
    that do not.
    """
    if request.checkpoint is not None:
        stored = read(request.checkpoint, request.config, allow_pickle=request.allow_pickle, ema=request.ema)
        converted = convert(stored, decomposed=request.decomposed, image_size=request.image_size)
    else:
        stored, converted = Stored(Path(), {}, CheckpointSettings()), _random(request)
    config, notes = converted.config, list(converted.notes)
    words, folder = None, request.tokenizer or stored.tokenizer
    if folder is not None:
        words, more = tokenizer.read(folder, config.vocab_size, codes=converted.codes, bins=converted.bins)
        notes += more
    else:
        notes.append(f"no vocabulary, so captions will be ids; --tokenizer DIR gives words: {tokenizer.WHERE}")
    task = request.task or ("entail" if stored.task in ENTAIL_TASKS else "caption")
    if request.task is None and stored.task not in ("", *CAPTION_TASKS, *ENTAIL_TASKS):
        notes.append(
            f"it was trained for the task {stored.task!r}, which is not run here; taken: captions "
            "(for statements about pictures: --task entail)"
        )
    stated = prompts.stated_by(stored.settings)
    texts = prompts.make(task, config, words, request.prompt, stated)
    if texts is None:
        if request.prompt is not None:
            raise UsageError(f"a prompt needs the vocabulary: --tokenizer DIR; {tokenizer.WHERE}")
        notes.append("no prompt: without the vocabulary its ids are not known")
    elif task == "entail" and stated.decoder is None:
        notes.append(
            "the checkpoint does not say what its decoder reads before the answer (prompt_type); taken: "
            "prev_output, as in OFA's SNLI-VE scripts"
        )
    if "with_caption" in (texts or {}).get(task, {}):
        notes.append(
            "trained with a caption of the picture in the text: give one with `mue-edge entail --caption "
            "TEXT`, else the statement-only text is used"
        )
    encoder = "decomposed (MuE)" if config.decomposed else "joint"
    layers = f"{config.encoder_layers}+{config.decoder_layers}"
    network = f"OFA with {encoder} encoder, {layers} layers of width {config.encoder_dim}"
    return ModelContent(config.to_json(), converted.weights, network, words, texts, tuple(notes))


def _random(request: ImportRequest) -> Converted:
    if request.config is not None:
        raise UsageError("--random takes a named size, so --config does not apply")
    if request.ema:
        raise UsageError("--random makes weights, so --ema does not apply")
    config = replace(SIZES[str(request.size)], decomposed=bool(request.decomposed))
    if request.image_size is not None:
        config = replace(config, image_size=request.image_size)
    return Converted(config, random_weights(config, request.seed))
