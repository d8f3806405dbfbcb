"""The loop as a page drives it: JSON-like data in and out, nothing computed, nothing awaited.

Runs under Pyodide with the standard library only. The page's JavaScript holds tensors and sessions; it gets
a request, runs the segment whenever its runtime is done, and sends the scalars back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import MANIFEST, Manifest, read_manifest
from mue_edge.errors import InputFileError, MueEdgeError, UsageError
from mue_edge.inputs.statements import check_length, unknown_words_note
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.protocol import DECODER, Answer, Loop, Outcome, Request
from mue_edge.loop.search import BeamSearch, new_search
from mue_edge.sessions.captioner import Captioner
from mue_edge.sessions.entailer import Entailer, answer_probabilities

# What a page needs of a bundle beside its segments and constants: written to Pyodide's file system.
FILES = (MANIFEST, "tokenizer.json")


def task_of(manifest: Manifest) -> str:
    """What a page does with a bundle: "caption" pictures, or "entail", that is judge statements."""
    return "entail" if manifest.answers else "caption"


class Elsewhere:
    """Stands where a bundle's user has its runtime: segments run in JavaScript."""

    def set_pixels(self, pixels: object) -> None:
        raise NotImplementedError

    def execute(self, request: Request) -> Answer:
        raise NotImplementedError

    def close(self) -> None: ...


class PageSession:
    """A bundle in a page. `folder` holds its manifest and its tokenizer, if it has one.

    Raises InputFileError for a manifest or a tokenizer that cannot be used.
    """

    def __init__(self, folder: str) -> None:
        self.bundle = Bundle(Path(folder), read_manifest(Path(folder)))
        kind = Entailer if self.bundle.manifest.answers else Captioner
        self.opened: Captioner | Entailer = kind(self.bundle, Elsewhere())

    def task(self) -> str:
        """Which of `caption` and `entail` the bundle is for."""
        return task_of(self.bundle.manifest)

    def manifest(self) -> dict[str, Any]:
        """The manifest with all defaults filled in."""
        return asdict(self.bundle.manifest)

    def policies(self) -> list[dict[str, Any]]:
        """The front from fastest to full depth, with what calibration predicts of each."""
        opening = self.bundle.manifest.initial_policy
        return [
            {"name": name, "seconds": p.seconds, "quality": p.quality, "opening": name == opening}
            for name, p in self.bundle.manifest.policies().items()
        ]

    def stacks(self) -> list[dict[str, Any]]:
        """The stacks, the decoder last: name, what it looks at (empty: nothing that a user gives), layers."""
        return [{"name": s.name, "reads": s.reads, "layers": s.depth} for s in self.opened.layout.stacks]

    def check(self, name: str) -> FileCheck:
        """Takes a file's bytes piece by piece and says whether they are the manifest's."""
        return FileCheck(self.bundle, name)

    def caption(self, policy: str | None = None) -> CaptioningRun:
        """One caption. Raises UsageError for a policy that the front does not hold, and for a bundle that
        judges statements."""
        if not isinstance(self.opened, Captioner):
            raise UsageError("this model judges statements; give it one beside the picture")
        return CaptioningRun(self.opened, policy)

    def entail(self, statement: str, policy: str | None = None, caption: str | None = None) -> JudgingRun:
        """One answer. caption: of the picture, where the model was trained with captions. Raises UsageError
        for a statement or caption that is empty or too long, for a policy that the front does not hold, and
        for a bundle that captions."""
        if not isinstance(self.opened, Entailer):
            raise UsageError("this model captions pictures; it judges no statements")
        return JudgingRun(self.opened, statement, policy, caption)


class FileCheck:
    """Size and hash of a file that JavaScript loaded, against the manifest's."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        if name not in bundle.manifest.files:
            raise InputFileError(f"the manifest lists no file {name!r}")
        self._name, self._entry = name, bundle.manifest.files[name]
        self._digest, self._bytes = hashlib.sha256(), 0

    def update(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._bytes += len(data)

    def finish(self) -> None:
        """Raises InputFileError for another file than the manifest's."""
        if self._bytes != self._entry.bytes or self._digest.hexdigest() != self._entry.sha256:
            raise InputFileError(
                f"{self._name} is not the file that the manifest names: it came in part or is of another "
                "version. Load the page again; if that does not help, export the site again"
            )


class PageRun:
    """One use of a bundle: `start`, then `send` an answer until no request comes back.

    Both return {"request": what to run next} with what a subclass says in between, at the end what it makes
    of the outcome, or {"error": one line}, which ends it too.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def start(self) -> dict[str, Any]:
        return self._step(None)

    def send(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """`answer` has the fields of `protocol.Answer`; candidates are [ids, log-probabilities, eos's]."""
        rows = [(ids, values, eos) for ids, values, eos in answer.get("candidates", ())]
        return self._step(Answer(answer.get("scalars", {}), rows, answer["now"]))

    def _step(self, answer: Answer | None) -> dict[str, Any]:
        try:
            request = next(self._loop) if answer is None else self._loop.send(answer)
        except StopIteration as end:
            return self._end(end.value)
        except MueEdgeError as problem:
            return {"error": str(problem)}
        return {"request": _request(request), **self._between(request)}

    def _between(self, request: Request) -> dict[str, Any]:
        """What is known before `request` is run."""
        return {}

    def _end(self, outcome: Outcome) -> dict[str, Any]:
        raise NotImplementedError


class CaptioningRun(PageRun):
    """One caption. After a token: {"text": the caption so far, "depth": layers that the step ran}; at the end
    {"caption": …}."""

    def __init__(self, captioner: Captioner, policy: str | None) -> None:
        self._captioner = captioner
        self._search = BeamSearch(captioner.settings())
        super().__init__(caption_loop(captioner.layout, captioner.policy(policy), self._search))
        self._stages = {stage.name: stage.depth for stage in captioner.layout.decoder.stages}
        self._run, self._depth = "", 0

    def _between(self, request: Request) -> dict[str, Any]:
        token: dict[str, Any] = {}
        if self._run == "head":
            text = self._captioner.tokenizer.caption(self._search.tokens[0][1:], ended=False)
            token = {"text": text, "depth": self._depth}
        self._run, self._depth = request.run, self._stages.get(request.run, self._depth)
        return token

    def _end(self, outcome: Outcome) -> dict[str, Any]:
        best, tokenizer = outcome.hypotheses[0], self._captioner.tokenizer
        caption = {
            "text": tokenizer.caption(best.tokens),
            "words": [tokenizer.decode([token]) for token in best.tokens],
            "tokens": list(best.tokens),
        }
        return {"caption": caption | _cost(outcome)}


class JudgingRun(PageRun):
    """One statement, whose `source` JavaScript shows to its runtime first. At the end {"entailment": …},
    whose note is empty or says which words the model lacks."""

    def __init__(self, entailer: Entailer, statement: str, policy: str | None, caption: str | None) -> None:
        self._manifest, self._source = entailer.bundle.manifest, entailer.source(statement, caption)
        check_length(self._source, self._manifest.segments[self._manifest.layout.text_stem].inputs["ids"].shape[0])
        noted = unknown_words_note(entailer.unknown(statement, caption))
        self._note = f"{noted[:1].upper()}{noted[1:]}." if noted else ""
        search = new_search(self._manifest.search, self._source)
        super().__init__(caption_loop(entailer.layout, entailer.policy(policy), search))

    def source(self) -> list[int]:
        """Ids of the source text around the statement."""
        return list(self._source)

    def _end(self, outcome: Outcome) -> dict[str, Any]:
        answer, probabilities = answer_probabilities(self._manifest, outcome)
        made = {"answer": answer, "probabilities": probabilities, "note": self._note}
        return {"entailment": made | _cost(outcome)}


def _cost(outcome: Outcome) -> dict[str, Any]:
    """Layers and calls that a run took."""
    decoder = [step.depth for step in outcome.steps]
    return {"exits": {**outcome.depths, DECODER: decoder}, "calls": outcome.calls}


def _request(request: Request) -> dict[str, Any]:
    """The fields that a driver acts on; requests to run ahead are not offered."""
    position = request.position
    fields: dict[str, Any] = {key: dict(getattr(request, key)) for key in ("inputs", "outputs")}
    fields |= {key: list(getattr(request, key)) for key in ("read", "ids", "gather")}
    store = [{"port": s.port, "buffer": s.buffer, "rows": list(s.rows)} for s in request.store]
    place = position and {"step": position.step, "ancestry": [list(a) for a in position.ancestry]}
    return {"run": request.run, "store": store, "position": place} | fields
