"""Interaction energy: 0 where class and attributes add up, and by definition elsewhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import medi
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.level_mix import condition
from medi.sampling.interaction import interaction
from tiny_model import SCHEMA


def told(denoiser: Denoiser) -> Checkpoint:
    return Checkpoint.of(denoiser, recipe={"dropout": 0.1})


def test_a_model_in_which_conditions_add_up_has_none(cohort: Cohort, denoiser: Denoiser, monkeypatch) -> None:
    """z joins the conditions slice by slice, so that any D that is linear in z is additive."""

    def linear(x: torch.Tensor, sigma: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return x + z.sum(dim=1)[:, None, None, None]

    monkeypatch.setattr(denoiser, "forward", linear)
    found = interaction(denoiser, told(denoiser), cohort, sigmas=(0.5, 2.0))
    assert len(found) == 2 * len(cohort)
    assert (found["whole"] > 0).all()
    assert (found["joint"] < 1e-9 * found["whole"]).all()


def test_the_definition_by_hand(cohort: Cohort, denoiser: Denoiser, monkeypatch) -> None:
    """D = (sum of z)^2 in every pixel: the numerator is known from the four vectors."""

    def squared(x: torch.Tensor, sigma: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return 0 * x + z.sum(dim=1).square()[:, None, None, None]

    monkeypatch.setattr(denoiser, "forward", squared)
    names = [a.name for a in denoiser.schema.attributes]
    found = interaction(denoiser, told(denoiser), cohort, sigmas=(1.0,), batch=7)
    with torch.inference_mode():
        both, class_alone, others_alone, neither = (
            condition(denoiser, cohort.table, dropped).sum(dim=1).square().numpy()
            for dropped in ([], names, ["class"], ["class", *names])
        )
    pixels = cohort.images.size**2 * 3
    np.testing.assert_allclose(found["joint"], pixels * (both - class_alone - others_alone + neither) ** 2, rtol=1e-3)
    np.testing.assert_allclose(found["whole"], pixels * (both - neither) ** 2, rtol=1e-3)
    assert found["row"].tolist() == list(range(len(cohort)))


@pytest.mark.slow
def test_the_batch_is_none_of_what_decides_a_patch_p3(cohort: Cohort, denoiser: Denoiser) -> None:
    whole, small = (interaction(denoiser, told(denoiser), cohort, sigmas=(0.5,), batch=n) for n in (64, 7))
    np.testing.assert_allclose(whole["joint"], small["joint"], rtol=1e-3)
    np.testing.assert_allclose(whole["whole"], small["whole"], rtol=1e-3)


def test_without_dropout_or_attributes_it_is_refused(cohort: Cohort, denoiser: Denoiser) -> None:
    with pytest.raises(MediError, match="without conditioning dropout of class"):
        interaction(denoiser, Checkpoint.of(denoiser), cohort)
    alone = replace(told(denoiser), schema=denoiser.schema.restrict([]))
    with pytest.raises(MediError, match="knows the class alone"):
        interaction(denoiser, alone, cohort)


@pytest.mark.slow
def test_a_model_tells_seen_from_unseen_combinations(cohort: Cohort, denoiser: Denoiser, tmp_path: Path) -> None:
    name = SCHEMA.attributes[0].name
    first = cohort.table[["class", name]].iloc[0].tolist()
    known = replace(told(denoiser), combinations={"columns": ["class", name], "rows": [[*first, 5]]})
    model = medi.Model.load(save_model(tmp_path / "model.safetensors", denoiser, known))
    found = model.interaction(cohort, sigmas=(0.5, 1.0), draws=50)
    assert found["split"].tolist() == ["seen", "seen", "unseen", "unseen"]
    seen = (cohort.table[["class", name]] == first).all(axis=1)
    assert found["n"].tolist() == [seen.sum(), seen.sum(), (~seen).sum(), (~seen).sum()]
    assert ((found["low"] <= found["energy"]) & (found["energy"] <= found["high"])).all()
    parts = interaction(denoiser, known, cohort, sigmas=(0.5,))
    assert found["energy"].iloc[0] == pytest.approx(parts["joint"][seen].sum() / parts["whole"][seen].sum(), rel=1e-5)
    bare = medi.Model.load(save_model(tmp_path / "bare.safetensors", denoiser, told(denoiser)))
    with pytest.raises(MediError, match="does not say which combinations"):
        bare.interaction(cohort)
