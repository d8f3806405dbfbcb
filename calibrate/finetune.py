"""Trains a model with MuE's layer-wise loss on pictures and captions; resumes after a kill.

Data comes as a function from (step, progress) to a batch, so that a resumed run sees what the
undisturbed one would have seen. Several processes (torchrun) average their gradients.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mue_edge.calibrate.objective import Batch, Students, losses, sample_depths
from mue_edge.errors import UsageError
from mue_edge.models.ofa.model import Model

Source = Callable[[int, float], Batch]


@dataclass(frozen=True)
class Settings:
    """How to train. Give `steps`, or `minutes` of wall clock over which the schedule is stretched."""

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-3
    warm_up: float = 0.03  # share of the schedule
    weight_decay: float = 0.05
    clip: float = 1.0
    label_smoothing: float = 0.1
    shallow_share: float = 0.4  # of the steps, with a sampled encoder depth
    distil: float = 1.0  # weight of the teacher; falls to 0 at `distil_until` of the schedule
    distil_until: float = 0.85
    ema: float = 0.999
    bf16: bool = True
    seed: int = 0
    save_every: float = 120.0  # seconds

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("training takes either a number of steps or of minutes")


@dataclass
class State:
    """Where a run stands."""

    step: int = 0
    seconds: float = 0.0
    progress: float = 0.0


def learning_rate(settings: Settings, progress: float) -> float:
    """Linear warm-up, then a cosine to zero, at 0 ≤ progress ≤ 1."""
    if progress < settings.warm_up:
        return settings.learning_rate * max(progress, 1e-3) / settings.warm_up
    rest = (progress - settings.warm_up) / (1 - settings.warm_up)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))


def distillation_weight(settings: Settings, progress: float) -> float:
    """Falls linearly to zero at `distil_until`."""
    return settings.distil * max(0.0, 1 - progress / settings.distil_until) if settings.distil_until else 0.0


class Trainer:
    """A model, its optimiser, its running average, and where the run stands."""

    def __init__(self, model: Model, prompt: list[int], channels: int, settings: Settings) -> None:
        self.model, self.settings, self.state = model.train(), settings, State()
        self.prompt = torch.tensor([prompt])
        self.students = Students(model, channels)
        model.encoder.embed_images.to(memory_format=torch.channels_last)
        self.parameters = [*model.parameters(), *self.students.parameters()]
        decayed = [p for p in self.parameters if p.dim() > 1]
        others = [p for p in self.parameters if p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
        self.average = [p.detach().clone() for p in model.parameters()]
        self.parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.leader = not self.parallel or torch.distributed.get_rank() == 0
        self._clock = time.monotonic()  # when the last step's gradients were ready

    def step(self, source: Source) -> dict[str, float]:
        """One step; returns what to log."""
        s, state = self.settings, self.state
        rank = torch.distributed.get_rank() if self.parallel else 0
        rng = torch.Generator().manual_seed((s.seed * 1_000_003 + state.step) * 64 + rank)
        rate = learning_rate(s, state.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = source(state.step, state.progress)
        depths = sample_depths(self.model.config.encoder_layers, s.shallow_share, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=s.bf16):
            out = losses(
                self.model, self.students, self.prompt, batch, depths,
                label_smoothing=s.label_smoothing, distil=distillation_weight(s, state.progress),
            )  # fmt: skip
        out.total.backward()  # type: ignore[no-untyped-call]
        now = time.monotonic()
        elapsed, self._clock = self._synchronise(now - self._clock), now
        norm = nn.utils.clip_grad_norm_(self.parameters, s.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=False)
        decay = min(s.ema, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.model.parameters()], 1 - decay)
        state.step += 1
        state.seconds += elapsed
        if s.steps is not None:
            state.progress = min(1.0, state.step / s.steps)
        elif s.minutes is not None:
            state.progress = min(1.0, state.seconds / (60 * s.minutes))
        return {"loss": float(out.total.detach()), "words": out.words, "distance": out.distance,
                "rate": rate, "norm": float(norm)}  # fmt: skip

    def _synchronise(self, seconds: float) -> float:
        """Average gradients, and the step's time, over the processes."""
        for p in self.parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if not self.parallel:
            return seconds
        grads = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([*(g.reshape(-1) for g in grads), torch.tensor([seconds])])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        start = 0
        for g in grads:
            g.copy_(flat[start : start + g.numel()].view_as(g))
            start += g.numel()
        return float(flat[-1])

    def averaged(self, batches: list[Tensor]) -> Model:
        """A copy with the averaged weights, in eval mode, BatchNorm re-estimated on pixels [B, 3, H, W].

        Statistics gathered while training belong to other weights and to augmented pictures.
        """
        model = Model(self.model.config)
        model.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            for target, value in zip(model.parameters(), self.average, strict=True):
                target.copy_(value)
            norms = [m for m in model.encoder.embed_images.modules() if isinstance(m, nn.BatchNorm2d)]
            model.train()
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over the batches
            for pixels in batches:
                model.encoder.embed_images(pixels)
        return model.eval()

    def save(self, path: Path) -> None:
        """Everything that a resumed run needs; only the leader of several processes writes."""
        if not self.leader:
            return
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "model": self.model.state_dict(), "students": self.students.state_dict(),
                "optimiser": self.optimiser.state_dict(), "average": self.average,
                "state": asdict(self.state), "settings": asdict(self.settings),
            },
            partial,
        )  # fmt: skip
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from `save`d; the settings may differ only where the user wants them to."""
        saved = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.students.load_state_dict(saved["students"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.average = saved["average"]
        self.state = State(**saved["state"])


def train(
    trainer: Trainer, source: Source, folder: Path, after_save: Callable[[Trainer], str] | None = None
) -> None:
    """Run to the end of the schedule, resuming from `folder/checkpoint.pt` where it is.

    `folder/log.jsonl` gets a line every 20 steps. `after_save` is called by the leader after each
    checkpoint; what it returns is printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.is_file():
        trainer.resume(checkpoint)
    saved_at, sums, count = trainer.state.seconds, dict[str, float](), 0
    while trainer.state.progress < 1.0:
        for key, value in trainer.step(source).items():
            sums[key] = sums.get(key, 0.0) + value
        count += 1
        state = trainer.state
        if state.step % 20 == 0 and trainer.leader:
            line = {
                "step": state.step,
                "seconds": round(state.seconds, 1),
                "progress": round(state.progress, 4),
            }
            line |= {key: round(value / count, 5) for key, value in sums.items()}
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            sums, count = {}, 0
        if state.seconds - saved_at >= trainer.settings.save_every or state.progress >= 1.0:
            saved_at = state.seconds
            trainer.save(checkpoint)
            if after_save is not None and trainer.leader:
                print(after_save(trainer), flush=True)
