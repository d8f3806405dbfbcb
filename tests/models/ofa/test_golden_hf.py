"""Folders of the Hugging Face fork and of ModelScope: what is imported gives the original code's logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mue_edge import models
from mue_edge.models import importing
from mue_edge.models.importing import ImportRequest
from tests.golden_hf import folders


@pytest.mark.parametrize("variant", folders.VARIANTS)
def test_weights_and_pictures_are_those_of_the_reference(variant: str) -> None:
    check = folders.read(f"{variant}/check.json")
    assert folders.weights_sha256(variant) == check["weights_sha256"]
    assert folders.images_sha256(variant) == check["patch_images_sha256"]


@pytest.mark.parametrize(("pickled", "half"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize("variant", folders.VARIANTS)
def test_logits_equal_the_original_codes(tmp_path: Path, variant: str, pickled: bool, half: bool) -> None:
    folder = folders.write(variant, tmp_path / variant, pickled=pickled, half=half)
    importing.write(ImportRequest(folder, allow_pickle=pickled), tmp_path / "model")
    model, wanted = models.load(tmp_path / "model"), folders.reference(variant)
    assert model.config.entangle_position_embedding == (variant == "modelscope-entangled")
    assert model.config.disable_entangle == (variant != "modelscope-entangled")
    tolerance = 2e-2 if half else 1e-4
    with torch.no_grad():
        encoded = model.encode(wanted["in.input_ids"], folders.images(variant), decomposed=False)
        states = model.decoder.hidden_states(wanted["in.decoder_input_ids"], encoded)
        logits = model.decode(wanted["in.decoder_input_ids"], encoded)
    seen, said = ~wanted["enc.padding_mask"], wanted["in.decoder_input_ids"].ne(1)
    for made, name, live in (
        (encoded.hidden, "enc.out", seen),
        (states[0], "dec.hidden.0", said),
        (logits, "dec.logits", said),
    ):
        torch.testing.assert_close(made[live], wanted[name][live], atol=tolerance, rtol=tolerance, msg=name)
