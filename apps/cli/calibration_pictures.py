"""Pictures to calibrate on: a user's own, or those that come with a bundled model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mue_edge.apps.cli.catalogue import BUNDLED, bundled_model, calibration_pairs, calibration_pictures
from mue_edge.apps.cli.terminal import say
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.calibrate.data import examples, samples, statement_tables
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.data.statement_tables import StatementVocabulary
from mue_edge.calibrate.metrics import cider
from mue_edge.calibrate.metrics.cider import Frequencies
from mue_edge.errors import UsageError
from mue_edge.export.prompts import ENTAIL, read_prompt, task_of
from mue_edge.inputs import gathering, tokens
from mue_edge.inputs.tokens import Tokenizer


def to_calibrate_on(
    source: Path, data: str | None, kind: str | None = None, images: Path | None = None
) -> tuple[Samples, Samples, Frequencies | None]:
    """(pictures to tune on, pictures to certify on, document frequencies where there are captions).

    source: a model folder or a bundle. data: pictures or a table of them (see `examples.read` for `kind` and
    `images`), or a bundled model's name for its pictures; None: the bundled model's own. Raises UsageError
    without a tokenizer, and where no pictures come with the model.
    """
    if not (source / "tokenizer.json").is_file():
        raise UsageError(f"{source} holds no tokenizer.json, so its captions cannot be compared")
    tokenizer = tokens.load(source / "tokenizer.json")
    vocabulary = statement_vocabulary(source, tokenizer)
    shipped = None
    if data is None or (data in BUNDLED and not Path(data).exists()):
        shipped = data or _bundled(source)
    if vocabulary is not None:
        if shipped is None:
            return *samples.split(statement_tables.read(Path(str(data)), vocabulary, images, say)), None
        parts = calibration_pairs(shipped)
        tune, certify = (statement_tables.read(table, vocabulary, folder, say) for table, folder in parts)
        return *_mixed(tune, certify), None
    reference_text = partial(examples.reference_text, tokenizer)
    if shipped is not None:
        tune, certify, frequencies = samples.of_tables(*calibration_pictures(shipped), reference_text)
        return *_mixed(tune, certify), frequencies
    path = Path(str(data))
    if path.is_dir() and not any(file.suffix.lower() in examples.TABLES for file in path.iterdir()):
        files = [Path(str(file)) for file in gathering.gather([path])]
        return *samples.split(samples.of_pictures(files, path.name)), None
    captioned, _ = examples.without_missing(examples.read(path, kind=kind, images=images))
    tune, certify = samples.split(samples.of_examples(captioned, path.name, reference_text))
    return tune, certify, cider.frequencies(tune.references or ())


def statement_vocabulary(source: Path, tokenizer: Tokenizer) -> StatementVocabulary | None:
    """How a model or bundle is asked about statements; None: it captions."""
    if (source / MANIFEST).is_file():
        m = open_bundle(source).manifest
        return StatementVocabulary(m.template, m.answers, tokenizer) if m.answers else None
    if task_of(source) != ENTAIL:
        return None
    prompt = read_prompt(source, ENTAIL)
    return StatementVocabulary(prompt.template, tuple(prompt.answers), tokenizer)


def _mixed(tune: Samples, certify: Samples) -> tuple[Samples, Samples]:
    """Pictures to tune on and to certify on, some clusters of the latter moved to the former: the model was
    chosen on the pictures to tune on, and what is best there need not be best on others."""
    part, rest = samples.split(certify)
    return tune.joined(part), rest


def _bundled(source: Path) -> str:
    """The bundled model that this is, or was made from."""
    if (source / MANIFEST).is_file():
        name = open_bundle(source).manifest.name
    else:
        name = next((name for name in BUNDLED if bundled_model(name) == source), source.name)
    if name not in BUNDLED:
        raise UsageError(
            f"{name} brings no pictures; name some hundreds of the kind that it will see with --data: "
            "a folder, or a table with captions"
        )
    return name
