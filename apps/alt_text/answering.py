"""What a worker process of the endpoint does: it opens the bundle once, then decodes pictures and captions them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge.apps.alt_text.table import clean
from mue_edge.inputs import image
from mue_edge.machine import return_large_blocks
from mue_edge.sessions.captioner import Captioner
from mue_edge.targets.host import HostRuntime


@dataclass(frozen=True)
class Limits:
    """waiting: requests beside those that are captioned. body: bytes. pixels: of a picture. body_seconds:
    for the whole body to arrive. deadline: seconds a caption, or None."""

    waiting: int = 16
    body: int = 16 << 20
    pixels: int = image.MAX_PIXELS
    body_seconds: float = 20.0
    deadline: float | None = None


@dataclass(frozen=True)
class Captioning:
    """What opens a worker. policy: what captions unless a request names another, as `Captioner.policy` takes it.
    shared: a folder for what several workers need once, None for one."""

    open: Callable[[], Captioner]
    policy: str | None
    limits: Limits
    shared: Path | None = None

    def __call__(self) -> Callable[[bytes, str | None], dict[str, Any]]:
        """Open the bundle and load its segments, so that mistakes show at once and no caption pays for it."""
        return_large_blocks()
        captioner = self.open()
        if self.shared is not None and isinstance(captioner.runtime, HostRuntime):
            captioner.runtime.share_packed(self.shared)
        chosen = captioner.policy(self.policy)
        captioner.warm_up()

        def answer(data: bytes, policy: str | None) -> dict[str, Any]:
            """The record of a picture's bytes. Raises InputFileError for what is no picture."""
            started, used = time.perf_counter(), chosen if policy is None else captioner.policy(policy)
            preprocess = captioner.bundle.manifest.preprocess
            picture = image.load_for_network(preprocess, data, max_pixels=self.limits.pixels)
            result = captioner.caption(picture, policy=used, deadline=self.limits.deadline)
            caption = {"alt": clean(result.text), "score": result.score, "policy": used.name or used.rule}
            layers = {"exits": dict(result.exits), "decoder_layers": result.decoder_layers}
            cut_short = bool(result.deadline and result.deadline.cut_short)
            return caption | layers | {"seconds": time.perf_counter() - started, "cut_short": cut_short}

        return answer
