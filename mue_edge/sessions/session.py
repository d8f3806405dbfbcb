"""What every use of a bundle shares: the opened bundle, its runtime, its policies and its pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.policy_files import read as read_policy
from mue_edge.errors import InputFileError, UsageError, suggestion
from mue_edge.inputs.tokens import MAX_PIECES, Tokenizer, ids_only
from mue_edge.inputs.tokens import load as load_tokenizer
from mue_edge.loop.driver import ClosedRuntime, Runtime, Stopwatch
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER, ExitDecision, Outcome
from mue_edge.loop.search import SearchSettings
from mue_edge.reading import is_file

if TYPE_CHECKING:
    from mue_edge.inputs.image import LoadedPicture, PictureSource

S = TypeVar("S", bound="Session")


@dataclass(frozen=True, kw_only=True)
class SessionResult:
    """How a result came about.

    exits: stack → layers run (the decoder's is a list, one a word). decisions: every exit test whose score
    was read. seconds: kind of segment → wall-clock time, with "preprocess" and "total". calls: of segments.
    """

    exits: Mapping[str, Any]
    decisions: tuple[ExitDecision, ...]
    seconds: Mapping[str, float]
    calls: int

    @property
    def decoder_layers(self) -> float:
        """Mean decoder layers a word."""
        layers: list[int] = self.exits[DECODER]
        return sum(layers) / max(1, len(layers))


def record_of(outcome: Outcome, watch: Stopwatch, started: float, prepared: float) -> dict[str, Any]:
    """The fields of a `SessionResult` that ends now; `prepared`: seconds of the preprocessing."""
    seconds = {"preprocess": prepared, **watch.seconds, "total": time.perf_counter() - started}
    record = {"exits": outcome.exits, "decisions": outcome.decisions, "calls": outcome.calls}
    return record | {"seconds": seconds}


class Session:
    """A bundle with its runtime. Not for several threads at once; open one each."""

    def __init__(self, bundle: Bundle, runtime: Runtime, max_pixels: int | None = None) -> None:
        self.bundle, self.runtime, self._max_pixels = bundle, runtime, max_pixels
        self.tokenizer = _tokenizer(bundle)
        self.layout = bundle.manifest.layout
        self._policies = bundle.manifest.policies()

    def run(self, picture: Any, source: Sequence[int], policy: Policy) -> None:
        """What the bundle is for, once, from the picture's file (and the ids of a text, where it reads one)
        to the answer: what a time is measured of."""
        raise NotImplementedError

    def settings(self) -> SearchSettings:
        """The search of the bundle."""
        return self.bundle.manifest.search

    def policy(self, chosen: str | Path | Policy | None = None) -> Policy:
        """A policy of the bundle's front by name, a policy file, or the front's chosen one.

        Raises UsageError for an unknown name or a policy that was made for another plan.
        """
        if chosen is None:
            chosen = self.bundle.manifest.chosen
        if isinstance(chosen, Policy):
            policy = chosen
        elif str(chosen) in self._policies:
            policy = self._policies[str(chosen)]
        elif is_file(chosen):
            policy = read_policy(chosen)
        else:
            raise UsageError(
                f"no policy {str(chosen)[:200]!r}{suggestion(str(chosen), self._policies)}: neither a file "
                f"nor in the bundle's front ({', '.join(self._policies)})"
            )
        if policy.plan is not None and policy.plan != self.bundle.manifest.plan_hash:
            raise UsageError(
                f"policy {policy.name or chosen} was made for plan {policy.plan}, this bundle has "
                f"{self.bundle.manifest.plan_hash}; calibrate again"
            )
        names = self.layout.depths()
        if foreign := sorted(set(policy.exits) - set(names)):
            raise UsageError(
                f"policy {policy.name or chosen} names the stacks {', '.join(foreign)}; this bundle has "
                f"{', '.join(names)}"
            )
        return policy

    def faster(self, policy: Policy) -> tuple[Policy, ...]:
        """What stands in for `policy` under a deadline, fastest first: what the front has before it; for
        a policy that is not of the front, all that may exit."""
        pareto_front = tuple(self._policies.values())
        if policy in pareto_front:
            return pareto_front[: pareto_front.index(policy)]
        return tuple(p for p in pareto_front if p.may_exit)

    def load(self, picture: PictureSource) -> LoadedPicture:
        """A picture, read once, for this bundle's network. Raises InputFileError."""
        from mue_edge.inputs import image

        return image.load_for_network(self.bundle.manifest.preprocess, picture, max_pixels=self._max_pixels)

    def pixels(self, picture: PictureSource) -> object:
        """The network's input for a picture, [1, 3, H, W]: float32, or grey levels (uint8) for a stem that
        takes a picture. Raises InputFileError."""
        from mue_edge.inputs import image

        p, loaded = self.bundle.manifest.preprocess, self.load(picture)
        stem = self.bundle.manifest.segments.get(self.layout.picture.stem)
        port = None if stem is None else stem.inputs.get("pixels")
        if port is not None and port.dtype == "uint8":
            return image.grey_levels(loaded.rgb, p.height, p.width)
        return image.network_input(p, loaded)

    def check_open(self) -> None:
        """Raises UsageError after `close`."""
        if isinstance(self.runtime, ClosedRuntime):
            self.runtime.set_pixels(None)

    def close(self) -> None:
        """Free the runtime's sessions and buffers; the session is of no use after it."""
        self.runtime.close()
        self.runtime = ClosedRuntime(self.bundle.path)

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def _tokenizer(bundle: Bundle) -> Tokenizer:
    if "tokenizer.json" in bundle.manifest.files:
        return load_tokenizer(bundle.file("tokenizer.json"))
    size = bundle.manifest.model.get("vocab_size")
    if not isinstance(size, int) or not 0 < size <= MAX_PIECES:
        raise InputFileError(f"{bundle.path}: the manifest's model has no vocab_size of 1 to {MAX_PIECES}")
    return ids_only(size)
