"""Training: schedule, resuming, averaging, BatchNorm statistics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mue_edge.calibrate.training.finetune import Trainer, TrainingSettings, learning_rate, train
from mue_edge.errors import UsageError


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def _trainer(steps: int = 12, **settings: float | bool) -> Trainer[nn.Sequential]:
    network, along = _network(), nn.Linear(2, 1)

    def objective(step: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        y = network(x)
        loss = ((y[:, 0] - x.mean((1, 2, 3))) ** 2).mean() + 0.1 * along(y).square().mean()
        return loss, {"twice": 2.0}

    options = TrainingSettings(steps=steps, bf16=False, **settings)  # type: ignore[arg-type]
    return Trainer(network, along, objective, options)


def test_learning_rate_rises_and_falls_to_zero() -> None:
    settings = TrainingSettings(steps=1, learning_rate=2.0, warm_up=0.1)
    assert learning_rate(settings, 0.05) == pytest.approx(1.0)
    assert learning_rate(settings, 0.1) == pytest.approx(2.0)
    assert learning_rate(settings, 0.55) == pytest.approx(1.0)
    assert learning_rate(settings, 1.0) == pytest.approx(0.0)


def test_steps_or_minutes() -> None:
    with pytest.raises(UsageError, match="either"):
        TrainingSettings()
    with pytest.raises(UsageError, match="either"):
        TrainingSettings(steps=1, minutes=1)


def test_training_lowers_the_loss() -> None:
    trainer = _trainer(200, learning_rate=1e-2)
    first = trainer.step()["loss"]
    while trainer.state.progress < 1:
        last = trainer.step()["loss"]
    assert last < first / 3


def test_a_resumed_run_equals_the_undisturbed_one(tmp_path: Path) -> None:
    whole = _trainer()
    expected = [whole.step()["loss"] for _ in range(12)]
    broken = _trainer()
    for _ in range(5):
        broken.step()
    broken.save(tmp_path / "checkpoint.pt")
    broken.step()  # work that the kill throws away
    resumed = _trainer()
    resumed.resume(tmp_path / "checkpoint.pt")
    assert resumed.state.step == 5
    assert [resumed.step()["loss"] for _ in range(7)] == expected[5:]
    for a, b in zip(resumed.average, whole.average, strict=True):
        assert torch.equal(a, b)


def test_train_goes_on_from_its_folder(tmp_path: Path) -> None:
    seen: list[int] = []

    def report(trainer: Trainer[nn.Sequential]) -> dict[str, float]:
        seen.append(trainer.state.step)
        return {"score": 1.0}

    train(_trainer(20), tmp_path, report)
    assert seen == [20]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert '"twice": 2.0' in lines[0]
    assert '"score": 1.0' in lines[1]
    train(_trainer(20), tmp_path, report)  # nothing is left to do
    assert seen == [20]


def test_a_report_that_a_kill_forestalled_is_made_up_for(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    train(_trainer(20), tmp_path, lambda _trainer: {"score": 1.0})
    whole = log.read_text()
    log.write_text(whole.splitlines(keepends=True)[0])
    train(_trainer(20), tmp_path, lambda _trainer: {"score": 1.0})
    assert log.read_text() == whole


def test_bfloat16_is_autocast() -> None:
    def sees(bf16: bool) -> torch.dtype:
        network, found = nn.Linear(4, 4), []

        def objective(_step: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
            found.append(network(torch.ones(1, 4)))
            return found[0].float().sum(), {}

        Trainer(network, nn.Module(), objective, TrainingSettings(steps=1, bf16=bf16)).step()
        return found[0].dtype

    assert (sees(True), sees(False)) == (torch.bfloat16, torch.float32)


def test_averaged_weights_get_statistics_of_their_own() -> None:
    trainer = _trainer(ema=0.9)
    for _ in range(6):
        trainer.step()
    x = torch.randn(16, 1, 8, 8) * 3 + 5

    def run(copy: nn.Sequential) -> None:
        copy(x)

    averaged = trainer.averaged(run)
    assert not averaged.training
    assert not torch.equal(averaged[0].weight, trainer.network[0].weight)
    mean = averaged[0](x).mean((0, 2, 3))
    assert torch.allclose(averaged[1].running_mean, mean, atol=1e-5)
    assert trainer.network[1].momentum == 0.1  # the trained network is left alone


@pytest.mark.parametrize(("name", "there"), [("amx_bf16", True), ("avx512_bf16", True), ("avx2", False)])
def test_bfloat16_is_the_default_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, name: str, there: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True, "avx512_f": True})
    assert TrainingSettings(steps=1).bf16 is there
