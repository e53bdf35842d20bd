"""Images from rows: sample i is sample i (P3), whatever stands beside it; settings are checked."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.pixels import to_uint8
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.denoiser import Denoiser
from medi.models.level_mix import condition
from medi.models.network import NetworkSettings
from medi.sampling.guidance import Guidance
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.sampling.schedules import uniform_log_sigmas
from medi.sampling.solvers import dpm_solver_2m
from tiny_model import with_random_weights

SETTINGS = SamplerSettings(steps=4, batch=16)


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_sample_i_is_sample_i(denoiser: Denoiser, cohort: Cohort, precision: str, eta: float) -> None:
    """P3: alone, in another order or among others, an image is the same bit for bit at a fixed internal batch."""
    rows, settings = cohort.table.head(7), replace(SETTINGS, precision=precision, eta=eta)
    together = sample_images(denoiser, rows, 3, settings)
    backwards = sample_images(denoiser, rows.iloc[::-1], 3, settings)
    alone = sample_images(denoiser, rows.iloc[[4]], 3, settings)
    assert (together == backwards[::-1]).all()
    assert (together[4] == alone[0]).all()
    assert (sample_images(denoiser, rows, 4, settings) != together).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_internal_batches_of_1_and_64_agree_within_one_grey_level(
    denoiser: Denoiser, cohort: Cohort, precision: str
) -> None:
    """P3."""
    rows, one = cohort.table.head(7), SamplerSettings(steps=4, batch=1, precision=precision)
    wide = sample_images(denoiser, rows, 3, replace(one, batch=64)).astype(int)
    narrow = np.concatenate([sample_images(denoiser, rows.iloc[[i]], 3, one) for i in range(7)])
    assert np.abs(wide - narrow).max() <= 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_gives_the_same_images_within_one_grey_level(schema: Schema, cohort: Cohort) -> None:
    """Of one level, as the compiler takes a second for each block."""
    denoiser = with_random_weights(NetworkSettings(size=8, fold=2, channels=(8,), layers=1), schema)
    rows, exact = cohort.table.head(7), replace(SETTINGS, precision="fp32")  # bf16 rounds less often when compiled
    plain, compiled = sample_images(denoiser, rows, 3, exact).astype(int), replace(exact, compile=True)
    found = sample_images(denoiser, rows, 3, compiled)
    assert np.abs(plain - found).max() <= 1
    assert (found[2:] == sample_images(denoiser, rows.tail(5), 3, compiled)).all()  # P3


@pytest.mark.parametrize(
    ("solver", "interval", "wanted"),
    [
        ("dpm_solver_2m", None, 12),
        ("dpm_solver_2m", (0.0, 1.0), 8),
        ("dpm_solver_2m", (50.0, 60.0), 4),
        ("heun", (0.0, 1.0), 15),
    ],
)
def test_evaluations_are_those_that_guided_sampling_makes(
    denoiser: Denoiser, cohort: Cohort, solver: str, interval: tuple[float, float] | None, wanted: int, monkeypatch
) -> None:
    """4 levels (40, 3.2, 0.25, 0.02), each with the denoiser, and where guided without the class and with a weaker."""
    guidance = Guidance({"class": 1.0, "site": 0.0}, autoguidance=0.5, interval=interval)
    settings, calls, forward = replace(SETTINGS, solver=solver, guidance=guidance), [], Denoiser.forward
    monkeypatch.setattr(Denoiser, "forward", lambda *given: calls.append(1) or forward(*given))
    sample_images(denoiser, cohort.table.head(2), 3, settings, worse=denoiser)
    assert settings.evaluations == len(calls) == wanted


def test_without_a_compiler_compile_is_one_line(denoiser: Denoiser, cohort: Cohort, monkeypatch) -> None:
    def fail(self: Denoiser, dynamic: bool) -> None:
        self.forward = lambda *inputs: torch.ones(2) @ torch.ones(3)  # a RuntimeError at the first evaluation

    monkeypatch.setattr(Denoiser, "compile", fail)
    with pytest.raises(MediError, match=r"torch.compile failed .*; leave compile off or install a C") as stopped:
        sample_images(denoiser, cohort.table.head(2), 3, replace(SETTINGS, compile=True))
    assert "\n" not in str(stopped.value)


@pytest.mark.slow
def test_an_image_is_the_solver_run_on_its_noise(denoiser: Denoiser, cohort: Cohort) -> None:
    """From noise at sigma_max through DPM-Solver++(2M) on the log grid to round(127.5 (x + 1))."""
    rows = cohort.table.head(3)
    z, noise = condition(denoiser, rows), seeds.noise(5, list(rows["noise_id"]), (3, 8, 8))
    with torch.inference_mode():
        x = dpm_solver_2m(
            lambda x, sigma: denoiser(x, torch.full((3,), sigma), z),
            40 * torch.from_numpy(noise),
            uniform_log_sigmas(16, 0.02, 40.0),
        )
    assert (sample_images(denoiser, rows, 5, SamplerSettings(batch=3, precision="fp32")) == to_uint8(x.numpy())).all()


@pytest.mark.slow
def test_fresh_noise_within_an_interval(denoiser: Denoiser, cohort: Cohort) -> None:
    """4 levels: 40, 3.2, 0.25, 0.02; the step to 0 has no noise."""
    rows = cohort.table.head(3)
    noisy = replace(SETTINGS, eta=0.7, eta_interval=(0.2, 5.0))
    np.testing.assert_array_equal(noisy.etas(), [0.0, 0.7, 0.7, 0.0])
    assert str(noisy) == "dpm_solver_2m, 4 steps, log 40 to 0.02, eta 0.7 for sigma 0.2 to 5"
    flow = sample_images(denoiser, rows, 3, SETTINGS)
    assert (sample_images(denoiser, rows, 3, noisy) != flow).any()
    assert (sample_images(denoiser, rows, 3, replace(noisy, eta_interval=(50.0, 60.0))) == flow).all()
    assert (sample_images(denoiser, rows, 3, replace(noisy, eta_interval=(0.0, 0.03))) == flow).all()


def test_noise_prediction_is_sampled_in_fp32_unless_asked(tiny, schema, cohort: Cohort) -> None:
    """x - sigma F: at sigma 150 an error of F in its third digit would be the whole range of the image."""
    torch.manual_seed(0)
    ddpm, seen = Denoiser(replace(tiny, parameterisation="ddpm"), schema).eval(), set()
    ddpm.network.conv_in.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    settings = SamplerSettings(steps=2, batch=2, schedule="leading", solver="ddim_clipped")
    sample_images(ddpm, cohort.table.head(2), 0, settings)
    assert seen == {torch.float32}
    sample_images(ddpm, cohort.table.head(2), 0, replace(settings, precision="bf16"))
    assert seen == {torch.float32, torch.bfloat16}


@pytest.mark.parametrize("solver", ["ddim", "ddim_clipped", "heun"])
@pytest.mark.parametrize("schedule", ["edm", "leading", "linspace"])
def test_solvers_and_schedules_can_be_combined(solver: str, schedule: str, denoiser: Denoiser, cohort: Cohort) -> None:
    settings = SamplerSettings(steps=3, batch=2, solver=solver, schedule=schedule)
    images = sample_images(denoiser, cohort.table.head(2), 0, settings)
    assert (images != sample_images(denoiser, cohort.table.head(2), 0, SamplerSettings(steps=3, batch=2))).any()


def test_noise_id_is_shared_across_conditions_and_condition_matters(denoiser: Denoiser, cohort: Cohort) -> None:
    rows = pd.concat([cohort.table.iloc[[1]]] * 2).assign(site=["A", "B"])
    first, second = sample_images(denoiser, rows, 0, SETTINGS)
    assert (first != second).any()
    same = sample_images(denoiser, rows.assign(site="A"), 0, SETTINGS)
    assert (same[0] == same[1]).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sigma_min": 3.0, "sigma_max": 1.0}, "sigma_min < sigma_max"),
        ({"steps": 0}, "1 to 1000 steps"),
        ({"batch": 0}, "at least 1, not 0"),
        ({"solver": "euler"}, "solver 'euler' is unknown; known: dpm_solver_2m, ipndm, ddim"),
        ({"eta": -0.1}, "eta -0.1 with dpm_solver_2m: fresh noise is 0 or more, and for dpm_solver_2m alone"),
        ({"eta": float("nan")}, "eta nan with dpm_solver_2m: fresh noise is 0 or more"),
        ({"eta": 0.5, "solver": "heun"}, "eta 0.5 with heun: fresh noise is 0 or more, and for dpm_solver_2m alone"),
        ({"eta": 0.5, "eta_interval": (3.0, 0.3)}, "eta_interval goes from a lower to a higher sigma, not .3.0, 0.3"),
        ({"schedule": "cosine"}, "schedule 'cosine' is unknown; known: log, edm"),
        ({"precision": "fp8"}, "precision is 'fp8'; input should be 'auto', 'bf16' or 'fp32'"),
    ],
)
def test_impossible_settings_are_refused(changed, words: str) -> None:
    with pytest.raises(MediError, match=words):
        SamplerSettings(**changed)


@pytest.mark.slow
def test_more_rows_than_a_batch_give_as_many_images(denoiser: Denoiser, cohort: Cohort) -> None:
    """Once 200 rows at batch 4 gave 4 images without a word."""
    rows = pd.concat([cohort.table] * 3, ignore_index=True)
    rows["noise_id"] = [f"n{i}" for i in range(len(rows))]
    images = sample_images(denoiser, rows, 0, SamplerSettings(steps=2, batch=5))
    assert len(images) == len(rows) == 72
    alone = sample_images(denoiser, rows.iloc[[67]], 0, SamplerSettings(steps=2, batch=5))
    assert (images[67] == alone[0]).all()
    assert sample_images(denoiser, rows.head(0), 0, SamplerSettings()).shape == (0, 8, 8, 3)
