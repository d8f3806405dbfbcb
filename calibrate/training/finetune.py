"""Trains a network by an objective that is a function of the step; resumes after a kill.

The objective makes its own batch from (step, progress), so that a resumed run sees what the
undisturbed one would have seen. Several processes (torchrun) average their gradients.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.files import atomic_file, atomic_write

Network = TypeVar("Network", bound=nn.Module)
# (step, progress in 0 … 1) → the loss with its graph, and figures for the log.
Objective = Callable[[int, float], tuple[Tensor, dict[str, float]]]
# Parts of a trainer with a state of their own.
CHECKPOINTED = ("network", "along", "optimiser")


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16; one that does not emulates it, many times slower than
    float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Give `steps`, or `minutes` of wall clock over which the schedule is stretched."""

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1.5e-3
    warm_up: float = 0.03  # share of the schedule
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    bf16: bool = field(default_factory=has_bf16)
    save_every: float = 300.0  # seconds
    log_every: int = 20  # steps; checkpoints lie on the same steps

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("training takes either a number of steps or of minutes")


@dataclass
class State:
    """Where a run stands; progress goes from 0 to 1."""

    step: int = 0
    seconds: float = 0.0
    progress: float = 0.0


def learning_rate(settings: TrainingSettings, progress: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    if progress < settings.warm_up:
        return settings.learning_rate * max(progress, 1e-3) / settings.warm_up
    rest = (progress - settings.warm_up) / (1 - settings.warm_up)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))


class Trainer(Generic[Network]):
    """A network, throw-away modules that train along, the optimiser, and the running average of weights."""

    def __init__(self, network: Network, along: nn.Module, objective: Objective, settings: TrainingSettings) -> None:
        self.network, self.along, self.objective, self.settings = network.train(), along, objective, settings
        self.state = State()
        self.parameters = [p for p in (*network.parameters(), *along.parameters()) if p.requires_grad]
        groups = [
            {"params": [p for p in self.parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
        self.average = [p.detach().clone() for p in network.parameters()]
        self.parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.leader = not self.parallel or torch.distributed.get_rank() == 0
        self._clock = time.monotonic()  # when the last step's gradients were ready

    def step(self) -> dict[str, float]:
        """One step; returns what to log."""
        s, state = self.settings, self.state
        rate = learning_rate(s, state.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=s.bf16):
            loss, figures = self.objective(state.step, state.progress)
        loss.backward()  # type: ignore[no-untyped-call]
        now = time.monotonic()
        figures = {"loss": float(loss.detach()), **figures}
        elapsed, figures = self._synchronise(now - self._clock, figures)
        self._clock = now
        norm = nn.utils.clip_grad_norm_(self.parameters, s.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=False)
        decay = min(s.ema, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.network.parameters()], 1 - decay)
        state.step += 1
        state.seconds += elapsed
        done = state.step / s.steps if s.steps else state.seconds / (60 * (s.minutes or 1.0))
        state.progress = min(1.0, done)
        return {**figures, "rate": rate, "norm": float(norm)}

    def _synchronise(self, seconds: float, figures: dict[str, float]) -> tuple[float, dict[str, float]]:
        """Average gradients, the step's time and figures over the processes: all see one schedule."""
        for p in self.parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if not self.parallel:
            return seconds, figures
        grads = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([*(g.reshape(-1) for g in grads), torch.tensor([seconds, *figures.values()])])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        *parts, times = flat.split([*(g.numel() for g in grads), 1 + len(figures)])  # type: ignore[no-untyped-call]
        for grad, part in zip(grads, parts):
            grad.copy_(part.view_as(grad))
        seconds, *values = times.tolist()
        return seconds, dict(zip(figures, values))

    def averaged(self, run: Callable[[Network], None]) -> Network:
        """A copy with the averaged weights, in eval mode, BatchNorm's statistics taken anew.

        `run` passes clean data through the copy: statistics gathered while training belong to other
        weights and to augmented pictures. A BatchNorm that was trained frozen (in eval mode) keeps its own.
        """
        copy = deepcopy(self.network)
        with torch.no_grad():
            for target, value in zip(copy.parameters(), self.average, strict=True):
                target.copy_(value)
            for module in copy.modules():
                if isinstance(module, nn.BatchNorm2d) and module.training:
                    module.reset_running_stats()
                    module.momentum = None  # a plain mean over the batches
            run(copy)
        return copy.eval()

    def save(self, path: Path) -> None:
        """Everything that a resumed run needs; only the leader of several processes writes."""
        if not self.leader:
            return
        checkpoint = {part: getattr(self, part).state_dict() for part in CHECKPOINTED}
        checkpoint |= {"average": self.average, "state": asdict(self.state)}
        with atomic_file(path) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as problem:
                if isinstance(problem.__context__, OSError):  # of the file, behind an error of torch's own
                    raise problem.__context__ from problem
                raise

    def resume(self, path: Path) -> None:
        """Continue from what `save` wrote."""
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for part in CHECKPOINTED:
            getattr(self, part).load_state_dict(saved[part])
        self.average = saved["average"]
        self.state = State(**saved["state"])


# After each step: where the run stands, and the figures of a logged one.
Watch = Callable[[State, dict[str, float] | None], None]


def train(
    trainer: Trainer[Network],
    folder: Path,
    after_save: Callable[[Trainer[Network]], dict[str, float]] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run to the end of the schedule, resuming from `folder/checkpoint.pt` where it is.

    `folder/log.jsonl` gets a line every `log_every` steps; lines of steps that a kill undid are taken
    out. `after_save` is called by the leader after each checkpoint; what it returns is logged too,
    and made up for when a kill came before it. Without `watch` the leader prints the log's lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if resumed := checkpoint.is_file():
        trainer.resume(checkpoint)

    def log(figures: dict[str, float]) -> None:
        _log(folder, trainer.state, figures, quiet=watch is not None)

    if trainer.leader:
        at_checkpoint = _cut_log(folder / "log.jsonl", trainer.state.step)
        if resumed and after_save is not None and at_checkpoint < 2:
            log(after_save(trainer))
    saved_at, sums, count = trainer.state.seconds, dict[str, float](), 0
    while trainer.state.progress < 1.0:
        for key, value in trainer.step().items():
            sums[key] = sums.get(key, 0.0) + value
        count += 1
        state = trainer.state
        ended = state.progress >= 1.0
        logged = ended or state.step % trainer.settings.log_every == 0
        means = {key: value / count for key, value in sums.items()} if logged else None
        if means is not None:
            sums, count = {}, 0
        if trainer.leader:
            if means is not None:
                log(means)
            if watch is not None:
                watch(state, means)
        if ended or (logged and state.seconds - saved_at >= trainer.settings.save_every):
            saved_at = state.seconds
            trainer.save(checkpoint)
            if after_save is not None and trainer.leader:
                log(after_save(trainer))


def _cut_log(path: Path, step: int) -> int:
    """Take out lines after `step`, and a last line that a kill left unfinished; how many `step` has."""
    if not path.is_file():
        return 0
    whole = [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line.endswith("}")]
    steps = [json.loads(line)["step"] for line in whole]
    atomic_write(path, "".join(f"{line}\n" for line, at in zip(whole, steps) if at <= step))
    return steps.count(step)


def _log(folder: Path, state: State, figures: dict[str, float], *, quiet: bool) -> None:
    where = {"step": state.step, "seconds": round(state.seconds, 1), "progress": round(state.progress, 4)}
    line = json.dumps(where | {key: float(f"{value:.6g}") for key, value in figures.items()})
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    if not quiet:
        print(line, flush=True)
