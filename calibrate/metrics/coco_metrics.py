"""The COCO caption metrics of the package pycocoevalcap (extra `evaluate`), as far as they can run here.

BLEU-4, ROUGE-L and CIDEr-D need the package. With Java, texts are tokenised as COCO's are (PTB) and
METEOR is measured; without it, words are cut at spaces. SPICE needs files that the package downloads
at first use: it is measured only where they are, and nothing is downloaded here.
"""

from __future__ import annotations

import importlib
import math
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from mue_edge.calibrate.metrics.bootstrap import Tally, mean_of
from mue_edge.calibrate.metrics.corpus_scores import Texts, bleu, meteor
from mue_edge.errors import EnvironmentLacksError

Key = TypeVar("Key")
_PACKAGE = "pycocoevalcap"
METRICS = ("bleu_4", "meteor", "rouge_l", "cider_d", "spice")
_PTB = "edu.stanford.nlp.process.PTBTokenizer"

_SCORERS = {
    "meteor": ("meteor.meteor", "Meteor"),
    "rouge_l": ("rouge.rouge", "Rouge"),
    "cider_d": ("cider.cider", "Cider"),
    "spice": ("spice.spice", "Spice"),
}


@dataclass(frozen=True)
class CocoScores(Generic[Key]):
    """Each set's metrics; `words`: ptb or spaces; notes say what was left out, and why."""

    scores: Mapping[Key, Mapping[str, Tally]]
    words: str
    notes: tuple[str, ...]


def available() -> bool:
    """Whether the extra is installed."""
    try:
        importlib.import_module(f"{_PACKAGE}.bleu.bleu")
    except ImportError:
        return False
    return True


def measure(
    sets: Mapping[Key, Sequence[str]], references: Sequence[Sequence[str]], metrics: Collection[str] = METRICS
) -> CocoScores[Key]:
    """Several sets of captions of the same pictures against each picture's references.

    Raises EnvironmentLacksError when Java or a scorer fails.
    """
    if not available():
        note = "BLEU-4, METEOR, CIDEr-D and COCO's ROUGE-L are left out: pip install 'mue-edge[evaluate]'"
        return CocoScores({key: {} for key in sets}, "spaces", (note,))
    java, notes = shutil.which("java") is not None, []
    if not java:
        notes.append("METEOR is left out and words are cut at spaces: both METEOR and COCO's words need Java")
    chosen = [name for name in METRICS if name in metrics and (java or name not in ("meteor", "spice"))]
    if "spice" in metrics and not (java and _spice_is_here()):
        notes.append("SPICE is left out: its CoreNLP files are not in the package's folder")
        chosen = [name for name in chosen if name != "spice"]
    if "cider_d" in chosen and len(references) < 2:
        notes.append("CIDEr-D is not defined for one picture: it weighs words by how many others have them")
    lines = [text for texts in (*sets.values(), *references) for text in texts]
    rest = iter(_tokenise(lines, java))
    cut = {key: {i: [next(rest)] for i, _ in enumerate(texts)} for key, texts in sets.items()}
    cut_references = {i: [next(rest) for _ in texts] for i, texts in enumerate(references)}
    scorers = {name: _scorer(*_SCORERS[name]) for name in chosen if name in _SCORERS}
    answers: dict[tuple[str, ...], list[str]] = {}
    scores = {
        key: {name: _tally(name, scorers.get(name), cut_references, captions, answers) for name in chosen}
        for key, captions in cut.items()
    }
    return CocoScores(scores, "ptb" if java else "spaces", tuple(notes))


def _tally(
    name: str, scorer: Any, references: Texts, captions: Texts, answers: dict[tuple[str, ...], list[str]]
) -> Tally:
    if name == "bleu_4":
        return bleu(references, captions)
    if name == "meteor":
        return meteor(scorer, references, captions, answers)
    if name == "cider_d" and len(references) < 2:
        return mean_of([math.nan] * len(references))
    _, scores = scorer.compute_score(references, captions)
    return mean_of([each["All"]["f"] for each in scores] if name == "spice" else list(scores))


@cache
def _scorer(module: str, name: str) -> Any:
    """One for the process: METEOR's Java program takes seconds to start, and ends with this one."""
    return getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)()


def _folder(module: str) -> Path:
    return Path(str(importlib.import_module(f"{_PACKAGE}.{module}").__file__)).parent


def _spice_is_here() -> bool:
    library = _folder("spice.spice") / "lib"
    return all((library / f"stanford-corenlp-3.6.0{part}.jar").is_file() for part in ("", "-models"))


def _tokenise(texts: Sequence[str], java: bool) -> list[str]:
    """Words in lower case with spaces between, punctuation taken out (COCO's list)."""
    module = importlib.import_module(f"{_PACKAGE}.tokenizer.ptbtokenizer")
    punctuation = frozenset(module.PUNCTUATIONS)
    lines = [" ".join(text.split()) for text in texts]
    if java:
        jar = _folder("tokenizer.ptbtokenizer") / module.STANFORD_CORENLP_3_4_1_JAR
        command = ["java", "-cp", str(jar), _PTB, "-preserveLines", "-lowerCase", "-encoding", "utf-8"]
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", errors="replace")
        tokenised = done.stdout.split("\n")[:-1]
        if done.returncode or len(tokenised) != len(lines):
            raise EnvironmentLacksError(
                f"Java's tokeniser gave {len(tokenised)} of {len(lines)} lines: "
                f"{done.stderr.strip()[-200:]}; leave it out: --no-coco"
            )
    else:
        tokenised = [" ".join(w.strip(".?!,:;\"'`") for w in line.lower().split()) for line in lines]
    return [" ".join(w for w in line.split() if w not in punctuation) for line in tokenised]
