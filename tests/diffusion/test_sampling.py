"""The solver against a closed form and against diffusers; sample i is sample i (P3)."""

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from medi.cohort.table import Cohort
from medi.diffusion.checkpoint import save_model
from medi.diffusion.denoiser import Denoiser
from medi.diffusion.sampling import SamplerSettings, dpm_solver_2m, generate, sample_images, uniform_log_sigmas
from medi.errors import MediError

SETTINGS = SamplerSettings(steps=4, batch=16)


def gaussian(std: float):
    """The ideal denoiser of images ~ N(0, std^2): D(x, sigma) = x std^2 / (std^2 + sigma^2)."""
    return lambda x, sigma: x * std**2 / (std**2 + sigma**2)


@pytest.mark.parametrize("std", [0.25, 0.5, 1.0])
def test_gaussian_keeps_its_spread_and_the_solver_is_of_second_order(std: float) -> None:
    """The exact flow scales x by sqrt(std^2 + sigma_min^2) / sqrt(std^2 + sigma_max^2) on its way to sigma_min."""
    errors = []
    for steps in (20, 40, 80):
        sigmas = uniform_log_sigmas(steps, 0.01, 40.0)
        result = dpm_solver_2m(gaussian(std), torch.full((1,), 40.0, dtype=torch.float64), sigmas).item()
        exact = 40.0 * np.sqrt((std**2 + 0.01**2) / (std**2 + 40.0**2)) * std**2 / (std**2 + 0.01**2)
        errors.append(abs(result - exact) / exact)
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 2.5
    assert errors[2] < errors[1] / 2.5


def test_solver_equals_diffusers() -> None:
    """Our closed form of DPM-Solver++(2M) against diffusers' scheduler on the same noise levels."""
    sigmas = uniform_log_sigmas(12, 0.02, 30.0)
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_type="midpoint", prediction_type="sample", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(12)
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30.0
    denoise, theirs = gaussian(0.5), x / np.sqrt(1 + 30.0**2)  # diffusers works on alpha x, alpha = 1/sqrt(1+sigma^2)
    for i, t in enumerate(scheduler.timesteps):
        scale = np.sqrt(1 + sigmas[i] ** 2)
        theirs = scheduler.step(denoise(theirs * scale, sigmas[i]), t, theirs).prev_sample
    torch.testing.assert_close(dpm_solver_2m(denoise, x, sigmas), theirs, rtol=1e-5, atol=1e-7)


def test_schedule_is_geometric_and_ends_at_zero() -> None:
    sigmas = uniform_log_sigmas(5, 0.01, 100.0)
    np.testing.assert_allclose(sigmas, [100, 10, 1, 0.1, 0.01, 0])


def test_sample_i_is_sample_i(denoiser: Denoiser, cohort: Cohort) -> None:
    """P3: alone, in another order or among others, an image is the same bit for bit at a fixed internal batch."""
    rows = cohort.table.head(7)
    together = sample_images(denoiser, rows, 3, SETTINGS)
    backwards = sample_images(denoiser, rows.iloc[::-1], 3, SETTINGS)
    alone = sample_images(denoiser, rows.iloc[[4]], 3, SETTINGS)
    assert (together == backwards[::-1]).all()
    assert (together[4] == alone[0]).all()
    other_batch = sample_images(denoiser, rows, 3, SamplerSettings(steps=4, batch=9))
    assert np.abs(together.astype(int) - other_batch).max() <= 1
    assert (sample_images(denoiser, rows, 4, SETTINGS) != together).mean() > 0.5


def test_noise_id_is_shared_across_conditions_and_condition_matters(denoiser: Denoiser, cohort: Cohort) -> None:
    rows = pd.concat([cohort.table.iloc[[1]]] * 2).assign(site=["A", "B"])
    first, second = sample_images(denoiser, rows, 0, SETTINGS)
    assert (first != second).any()
    same = sample_images(denoiser, rows.assign(site="A"), 0, SETTINGS)
    assert (same[0] == same[1]).all()


@pytest.fixture
def model(denoiser: Denoiser, tmp_path):
    return save_model(tmp_path / "model.safetensors", denoiser, {"images": 0})


def test_generate_resumes_after_a_kill(model, cohort: Cohort, tmp_path) -> None:
    """P12: batches that were finished stay; the result equals an uninterrupted run."""
    settings, rows = SamplerSettings(steps=3, batch=8), cohort.table
    whole = generate(model, rows, tmp_path / "whole", 1, settings)

    def kill(images: int, total: int) -> None:
        if images == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, rows, tmp_path / "cut", 1, settings, kill)
    assert not (tmp_path / "cut" / "cohort.json").exists()
    assert len(list((tmp_path / "cut" / "parts").glob("*.npy"))) == 2
    again = generate(model, rows, tmp_path / "cut", 1, settings)
    assert (again.images[:] == whole.images[:]).all()
    assert not (tmp_path / "cut" / "parts").exists()
    assert Cohort.load(tmp_path / "cut").digest() == whole.digest()
    assert set(again.table["origin"]) == {again.info["model"]}


def test_parts_of_another_seed_are_discarded(model, cohort: Cohort, tmp_path) -> None:
    def kill(images: int, total: int) -> None:
        raise KeyboardInterrupt

    settings = SamplerSettings(steps=2, batch=8)
    with pytest.raises(KeyboardInterrupt):
        generate(model, cohort.table, tmp_path / "x", 1, settings, kill)
    changed = generate(model, cohort.table, tmp_path / "x", 2, settings)
    assert (changed.images[:] == generate(model, cohort.table, tmp_path / "y", 2, settings).images[:]).all()


def test_unknown_levels_are_refused_before_the_first_image(model, cohort: Cohort, tmp_path) -> None:
    """P1: never index 0."""
    with pytest.raises(MediError, match=r"site 'Z' .* known levels: A, B"):
        generate(model, cohort.table.assign(site="Z"), tmp_path / "x", 0, SETTINGS)
    assert not (tmp_path / "x").exists()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(MediError, match="sigma_min < sigma_max"):
        SamplerSettings(sigma_min=3.0, sigma_max=1.0)
