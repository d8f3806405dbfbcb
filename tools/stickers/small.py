"""Models to compare exits with: `python -m tools.stickers.small --layers 1`.

The bundled model with its decoder's first layers only, fine-tuned by the last one's loss while everything
else is held still: what one would ship instead of a network with exits. Without --layers all of them are, by
every layer's loss: the network with exits that had as much training; or by the loss that another method's
paper trains its backbone with. It may be stopped, and goes on.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import click
import torch
from torch import Tensor, nn

from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.dataset import default_cache
from mue_edge.calibrate.training.finetune import Trainer, TrainingSettings, train
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder
from tools.stickers.decoders import SPLIT, Arm, Frozen, fresh, frozen, joined
from tools.stickers.encoded import EncodedBatches
from tools.stickers.objective import decoder_loss
from tools.stickers.study import VAL, claim, finished
from tools.stickers.train import LABEL_SMOOTHING, exact_match, write_model

BATCH = 24
# Whose loss the decoder learns by: all layers alike (MuE), by their number (PABEE, CALM), the last one only.
Loss = Literal["mean", "depth", "last"]
SETTINGS = TrainingSettings(steps=1500, learning_rate=2e-4, ema=0.99, save_every=30.0)


def cut(model: Model, layers: int) -> Decoder:
    """A copy of the model's decoder without the layers after so many."""
    made = fresh(model, Arm("static", layers=layers), 0)
    names = made.state_dict().keys()
    made.load_state_dict({name: value for name, value in model.decoder.state_dict().items() if name in names})
    return made


def tune(
    layers: int | None,
    folder: Path,
    still: Frozen,
    settings: TrainingSettings = SETTINGS,
    *,
    loss: Loss | None = None,
    seed: int = 0,
) -> Path:
    """Fine-tune the cut decoder in its folder, or the whole one with its exits, or go on; the model folder.

    `loss`: a cut decoder's is the last layer's, the whole one's every layer's, unless given. `seed`: of the
    batches. Raises UsageError when the folder is of another run."""
    by = loss or ("mean" if layers is None else "last")
    words = {"layers": layers, "loss": by, "seed": seed, "batch": BATCH, "views": len(still.kept.pictures)}
    claim(folder, words | {"settings": asdict(settings), "model_sha256": still.weights})
    decoder = cut(still.model, layers or still.model.config.decoder_layers)
    tokenizer = still.learner.tokenizer
    batches = EncodedBatches(still.kept, still.data, tokenizer, BATCH, seed)

    def objective(step: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        states, tokens = batches(step)
        total, last = decoder_loss(
            decoder,
            states,
            tokens,
            label_smoothing=LABEL_SMOOTHING,
            last_layer_only=by == "last",
            over_layers="mean" if by == "last" else by,
        )
        return total, {"words": last}

    def report(trained: Trainer[Decoder]) -> dict[str, float]:
        if trained.state.progress < 1:
            return {}
        model = joined(still.model, trained.averaged(lambda _decoder: None))
        write_model(model, tokenizer, folder / "model")
        return {VAL: exact_match(model, tokenizer, still.data, SPLIT, still.learner.prompt)}

    if not finished(folder):
        before = exact_match(joined(still.model, decoder), tokenizer, still.data, SPLIT, still.learner.prompt)
        click.echo(f"decoder layers {layers or 'all'}, exact match on {SPLIT} before: {before:.3f}")
        train(Trainer(decoder, nn.Module(), objective, settings), folder, report)
    return folder / "model"


@click.command()
@click.option("--layers", type=click.IntRange(1), help="Of the decoder.  [default: all, with exits]")
@click.option("--loss", type=click.Choice(get_args(Loss)), help="[default: last with --layers, mean without]")
@click.option("--seed", default=0, show_default=True, help="Of the batches.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: out/decoder-LAYERS]")
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--threads", default=1, show_default=True)
def main(layers: int | None, loss: Loss | None, seed: int, out: Path | None, cache: Path | None, threads: int) -> None:
    """Fine-tune the bundled model or a smaller one, for `mue-edge compare --static`."""
    torch.set_num_threads(threads)
    still = frozen(model_folder(), cache or default_cache(), 1)
    folder = out or Path("out") / f"decoder-{layers or 'all'}"
    click.echo(f"written: {tune(layers, folder, still, loss=loss, seed=seed)}")


if __name__ == "__main__":
    main()
