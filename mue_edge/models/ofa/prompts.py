"""The texts that OFA's encoder reads, and their ids: `prompts.json` of a model folder.

Caption: one constant text. Entailment: a template around the hypothesis, and the answers among
which the decoder chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs.statements import CAPTION as CAPTION_PLACE
from mue_edge.inputs.statements import TEXT_LENGTH, field_problem, field_problems
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.ofa.config import OFAConfig

CAPTION = " what does the image describe?"
ENTAIL = ' does the image describe " {hypothesis} "?'
ENTAIL_WITH_CAPTION = ' can image and text1 " {caption} " imply text2 " {hypothesis} "?'
# Tokens that the second one makes room for, caption and statement included.
LENGTH_WITH_CAPTION = 96
# Answers in the order of the published candidates.
ANSWERS = {" no": "contradiction", " yes": "entailment", " maybe": "neutral"}

# OFA's released vocabulary, measured; for models that come without their vocabulary's files.
RELEASED_SIZE = 59457
_RELEASED = {CAPTION: (99, 473, 5, 2274, 6190, 116), " no": (117,), " yes": (4420,), " maybe": (2085,)}


@dataclass(frozen=True)
class StatedPrompts:
    """What a checkpoint states of its prompts; the defaults are those of one that states nothing.

    captions: entailment saw the picture's caption as well. text: its prompt. decoder: what is fed before an
    answer (`prompts.json`). answers: word → label.
    """

    captions: bool = False
    text: str | None = None
    decoder: str | None = None
    answers: Mapping[str, str] = field(default_factory=lambda: ANSWERS)


NOTHING_STATED = StatedPrompts()
# `prompt_type` of fairseq's and ModelScope's settings → `decoder` of prompts.json.
_DECODERS = {None: None, "none": "bos", "src": "source", "prev_output": "prev_output"}


def stated_by(settings: Mapping[str, Any]) -> StatedPrompts:
    """Raises InputFileError for a prompt_type that is not known."""
    kind, text = settings.get("prompt_type"), settings.get("prompt")
    if not isinstance(kind, str | None) or kind not in _DECODERS:
        known = ", ".join(filter(None, _DECODERS))
        raise InputFileError(f"the checkpoint has prompt_type {kind!r}; known: {known}")
    captions, answers = bool(settings.get("add_caption")), settings.get("answers") or ANSWERS
    return StatedPrompts(captions, text if isinstance(text, str) else None, _DECODERS[kind], answers)


def make(
    task: str,
    config: OFAConfig,
    tokenizer: Tokenizer | None,
    text: str | None = None,
    stated: StatedPrompts = NOTHING_STATED,
) -> dict[str, Any] | None:
    """`prompts.json` for a task; None where no tokenizer gives the ids and they are not known.

    text: another prompt than the checkpoint's; for entailment a template with {hypothesis}, and with
    {caption} where it stands in for the one with captions. Raises UsageError for a text that cannot serve.
    """
    if task == "entail":
        return _entail(config, tokenizer, text, stated)
    text = text or stated.text or CAPTION
    _check("a caption's", field_problem(text))
    words = _ids(_spaced(text), config, tokenizer)
    if words is None:
        return None
    ids = [config.bos, *words, config.eos]
    if len(ids) > config.max_source_positions:
        raise UsageError(f"the prompt has {len(ids)} tokens, the model reads {config.max_source_positions}")
    return {"caption": {"text": _spaced(text), "ids": ids}}


def _entail(
    config: OFAConfig, tokenizer: Tokenizer | None, text: str | None, stated: StatedPrompts
) -> dict[str, Any] | None:
    texts = {"template": ENTAIL} | ({"with_caption": ENTAIL_WITH_CAPTION} if stated.captions else {})
    for template in (stated.text, text):
        if template is not None:
            texts["with_caption" if CAPTION_PLACE in template else "template"] = _spaced(template)
    with_caption = texts.get("with_caption", "")
    _check("entailment's", field_problems(texts["template"], with_caption))
    length = min(LENGTH_WITH_CAPTION if with_caption else TEXT_LENGTH, config.max_source_positions)
    answers = {}
    for word, label in stated.answers.items():
        ids = _ids(_spaced(word), config, tokenizer)
        if ids is None:
            return None
        answers[word.strip()] = {"ids": ids, "means": label}
    decoder = stated.decoder or "prev_output"
    return {"entail": {**texts, "answers": answers, "decoder": decoder, "text_length": length}}


def _check(whose: str, problem: str) -> None:
    if problem:
        raise UsageError(f"{whose} --prompt {problem}")


def _spaced(text: str) -> str:
    """OFA's texts start with a space: without it the first word is another token."""
    return text if text.startswith(" ") else f" {text}"


def _ids(text: str, config: OFAConfig, tokenizer: Tokenizer | None) -> list[int] | None:
    if tokenizer is None:
        released = _RELEASED.get(text) if config.vocab_size == RELEASED_SIZE else None
        return None if released is None else list(released)
    ids = tokenizer.encode(text)
    if tokenizer.unk in ids:
        raise UsageError(f"the tokenizer has no pieces for {text!r}; is it the one of this checkpoint?")
    return ids
