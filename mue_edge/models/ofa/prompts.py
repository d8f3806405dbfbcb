"""The texts that OFA's encoder reads, and their ids: `prompts.json` of a model folder.

Caption: one constant text. Entailment: a template around the hypothesis, and the answers among
which the decoder chooses.
"""

from __future__ import annotations

from typing import Any

from mue_edge.errors import UsageError
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.statements import CAPTION as CAPTION_PLACE
from mue_edge.statements import misplaced, misplaced_of
from mue_edge.tokens import Tokenizer

TASKS = ("caption", "entail")
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


def make(
    task: str,
    config: OFAConfig,
    tokenizer: Tokenizer | None,
    text: str | None = None,
    *,
    captions: bool = False,
) -> dict[str, Any] | None:
    """`prompts.json` for a task; None where no tokenizer gives the ids and they are not known.

    text: another prompt; for entailment a template with {hypothesis}, and with {caption} where it stands
    in for the one with captions. captions: the checkpoint was trained to see the picture's caption as
    well. Raises UsageError for a text that cannot serve.
    """
    if task == "entail":
        return _entail(config, tokenizer, text, captions)
    text = text or CAPTION
    _check("a caption's", misplaced(text))
    ids = _ids(_spaced(text), config, tokenizer)
    if ids is None:
        return None
    ids = [config.bos, *ids, config.eos]
    if len(ids) > config.max_source_positions:
        raise UsageError(f"the prompt has {len(ids)} tokens, the model reads {config.max_source_positions}")
    return {"caption": {"text": _spaced(text), "ids": ids}}


def _entail(
    config: OFAConfig, tokenizer: Tokenizer | None, text: str | None, captions: bool
) -> dict[str, Any] | None:
    texts = {"template": ENTAIL} | ({"with_caption": ENTAIL_WITH_CAPTION} if captions else {})
    if text is not None:
        texts["with_caption" if CAPTION_PLACE in text else "template"] = _spaced(text)
    with_caption = texts.get("with_caption", "")
    _check("entailment's", misplaced_of(texts["template"], with_caption))
    room = {"text_length": min(LENGTH_WITH_CAPTION, config.max_source_positions)} if with_caption else {}
    answers = {}
    for word, meaning in ANSWERS.items():
        ids = _ids(word, config, tokenizer)
        if ids is None:
            return None
        answers[word.strip()] = {"ids": ids, "means": meaning}
    return {"entail": {**texts, "answers": answers, "decoder": "prev_output", **room}}


def around(tokenizer: Tokenizer, template: str = ENTAIL) -> tuple[int, int]:
    """How many ids of the source text, bos … eos, stand before and after the statement."""
    before, after = template.split("{hypothesis}")
    return 1 + len(tokenizer.encode(before.rstrip())), len(tokenizer.encode(after)) + 1


def _check(whose: str, problem: str) -> None:
    if problem:
        raise UsageError(f"{whose} --prompt {problem}")


def _spaced(text: str) -> str:
    """OFA's texts start with a space: without it the first word is another token."""
    return text if text.startswith(" ") else f" {text}"


def _ids(text: str, config: OFAConfig, tokenizer: Tokenizer | None) -> list[int] | None:
    if tokenizer is None:
        known = _RELEASED.get(text) if config.vocab_size == RELEASED_SIZE else None
        return None if known is None else list(known)
    ids = tokenizer.encode(text)
    if tokenizer.unk in ids:
        raise UsageError(f"the tokenizer has no pieces for {text!r}; is it the one of this checkpoint?")
    return ids
