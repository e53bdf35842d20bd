"""Solvers and schedules against the closed-form Gaussian and against diffusers' schedulers."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from later import Later
from medi.core.errors import MediError
from medi.core.registry import register, registry
from medi.models.noise import ddpm_sigmas
from medi.sampling.sampler import SamplerSettings
from medi.sampling.schedules import edm_sigmas, leading_sigmas, linspace_sigmas, uniform_log_sigmas
from medi.sampling.solvers import SOLVERS, Fresh, ddim, dpm_solver_2m, heun, ipndm

diffusers = Later("diffusers")
DDPM = ddpm_sigmas()
RANGE = (DDPM[0], DDPM[-1])


def gaussian(std: float) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """The ideal denoiser of images ~ N(0, std^2): D(x, sigma) = x std^2 / (std^2 + sigma^2)."""
    return lambda x, sigma: x * std**2 / (std**2 + sigma**2)


def bent(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """A denoiser that is not linear in x and leaves [-1, 1]."""
    return 1.3 * torch.tanh(x / (0.3 + sigma))


def error(solver: Callable[..., torch.Tensor], sigmas: np.ndarray, std: float) -> float:
    """Absolute error of the final standard deviation, started with that of pure noise at sigma_max."""
    return abs(solver(gaussian(std), torch.tensor([sigmas[0]]), sigmas).item() - std)


def noise(scale: float) -> torch.Tensor:
    return scale * torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("solver", "sigmas", "known"),
    [
        (ddim, leading_sigmas(20), 0.066),
        (ddim, uniform_log_sigmas(20, *RANGE), 0.060),
        (dpm_solver_2m, linspace_sigmas(20), 0.023),
        (dpm_solver_2m, uniform_log_sigmas(20, *RANGE), 0.007),
        (ipndm, uniform_log_sigmas(20, *RANGE), 0.004),
    ],
)
def test_error_at_20_steps_is_the_known_one(solver, sigmas, known: float) -> None:
    """Data std 0.5, linear betas: the figures of the design notes, to their three decimals."""
    assert round(error(solver, sigmas, 0.5), 3) <= known


def test_log_grid_is_the_better_one_for_small_stds_and_the_worse_for_one() -> None:
    """The order of the grids changes with the data's spread, and DPM++ beats DDIM on the log grid throughout."""
    log, linspace = uniform_log_sigmas(20, *RANGE), linspace_sigmas(20)
    for std, log_wins in ((0.25, True), (0.5, True), (1.0, False)):
        assert (error(dpm_solver_2m, log, std) < error(dpm_solver_2m, linspace, std)) == log_wins
        assert error(dpm_solver_2m, log, std) < 0.2 * error(ddim, log, std)


@pytest.mark.parametrize("std", [0.25, 0.5, 1.0])
@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpm_solver_2m", 2), ("heun", 2), ("ipndm", 2)])
def test_solvers_converge_with_their_order(name: str, order: int, std: float) -> None:
    """The exact flow scales x by sqrt(std^2 + sigma_min^2) / sqrt(std^2 + sigma_max^2) on its way to sigma_min."""
    errors = []
    for steps in (40, 80, 160):
        sigmas = uniform_log_sigmas(steps, 0.01, 40.0)[:-1]  # to sigma_min; the step to 0 is the same for all
        result = SOLVERS[name](gaussian(std), torch.tensor([40.0], dtype=torch.float64), sigmas).item()
        errors.append(abs(result / (40.0 * np.sqrt((std**2 + 0.01**2) / (std**2 + 40.0**2))) - 1))
    assert errors[0] < 0.1
    for coarse, fine in pairwise(errors):
        assert coarse / fine > 0.75 * 2**order


def test_dpm_solver_equals_diffusers() -> None:
    """Our closed form of DPM-Solver++(2M) against diffusers' scheduler on the same noise levels."""
    sigmas = uniform_log_sigmas(12, 0.02, 30.0)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_type="midpoint", prediction_type="sample", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(12)
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    x = noise(30.0)
    theirs = x / np.sqrt(1 + 30.0**2)  # diffusers works on alpha x, alpha = 1/sqrt(1+sigma^2)
    for i, t in enumerate(scheduler.timesteps):
        scale = np.sqrt(1 + sigmas[i] ** 2)
        theirs = scheduler.step(bent(theirs * scale, sigmas[i]), t, theirs).prev_sample
    torch.testing.assert_close(dpm_solver_2m(bent, x, sigmas), theirs, rtol=1e-5, atol=1e-7)


def test_ipndm_integrates_quadratic_slopes_exactly_on_even_steps() -> None:
    """As Adams-Bashforth of order 3 does, once it has three slopes."""
    sigmas = np.linspace(9.0, 1.0, 9)
    places: list[torch.Tensor] = []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        places.append(x)
        return x - sigma * (2.0 - 3.0 * sigma + 0.5 * sigma**2)

    end = ipndm(denoise, torch.zeros(1, dtype=torch.float64), sigmas)
    whole = np.polynomial.Polynomial([0.0, 2.0, -1.5, 0.5 / 3])
    found = torch.cat([*places[2:], end]).diff().numpy()
    np.testing.assert_allclose(found, np.diff(whole(sigmas[2:])), rtol=1e-12)


def test_the_stochastic_solver_equals_diffusers() -> None:
    """SDE-DPM-Solver++(2M) with eta 1 against diffusers, on the same noise levels and the same fresh noise."""
    sigmas, fresh = uniform_log_sigmas(12, 0.02, 30.0), [noise(1.0 + 0.1 * i) for i in range(12)]
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++", solver_type="midpoint", prediction_type="sample", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(12)
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    x = noise(30.0)
    theirs = x / np.sqrt(1 + 30.0**2)
    for i, t in enumerate(scheduler.timesteps):
        scale = np.sqrt(1 + sigmas[i] ** 2)
        given = fresh[i].float()  # diffusers takes noise in fp32
        theirs = scheduler.step(bent(theirs * scale, sigmas[i]), t, theirs, variance_noise=given).prev_sample.double()
    ours = dpm_solver_2m(bent, x, sigmas, Fresh(np.ones(12), fresh.__getitem__))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eta", [0.3, 1.0, 2.0])
def test_fresh_noise_keeps_the_marginals(eta: float) -> None:
    """Images ~ N(0, 0.5^2): whatever eta, x at sigma_min has the variance 0.25 + sigma_min^2 for many steps.

    The solver is linear here, so variances are exact: each independent noise goes through it alone.
    """
    steps = 150
    sigmas, std = uniform_log_sigmas(steps, 0.01, 40.0)[:-1], 0.5
    etas = np.full(steps - 1, eta)
    units = torch.eye(steps, dtype=torch.float64)  # one column each for the first noise and that of every step
    start = units[0] * np.sqrt(std**2 + 40.0**2)
    end = dpm_solver_2m(gaussian(std), start, sigmas, Fresh(etas, lambda i: units[i + 1]))
    assert end.square().sum().item() == pytest.approx(std**2 + 0.01**2, rel=0.02)
    without = dpm_solver_2m(gaussian(std), start, sigmas, Fresh(etas, lambda i: 0 * units[i + 1]))
    assert without.square().sum().item() < 0.9 * std**2


def test_fresh_noise_only_where_it_is_asked_for() -> None:
    sigmas, etas, steps = uniform_log_sigmas(8, 0.02, 30.0), np.zeros(8), []
    flow = dpm_solver_2m(bent, noise(30.0), sigmas)
    assert (dpm_solver_2m(bent, noise(30.0), sigmas, Fresh(etas, noise)) == flow).all()
    etas[[2, 5]] = 0.5
    some = Fresh(etas, lambda i: steps.append(i) or noise(1.0))
    assert (dpm_solver_2m(bent, noise(30.0), sigmas, some) != flow).any()
    assert steps == [2, 5]


@pytest.mark.parametrize(("name", "clip"), [("ddim", False), ("ddim_clipped", True)])
def test_ddim_equals_diffusers_with_noise_prediction(name: str, clip: bool) -> None:
    """The published recipe's sampler: DDIMScheduler with its defaults on noise predictions, leading spacing."""
    scheduler = diffusers.DDIMScheduler(clip_sample=clip)
    scheduler.set_timesteps(20)
    sigmas = leading_sigmas(20)
    np.testing.assert_allclose(sigmas[:-1], DDPM[scheduler.timesteps.numpy()])
    x = noise(sigmas[0])
    theirs = x / np.sqrt(1 + sigmas[0] ** 2)
    for sigma, t in zip(sigmas, scheduler.timesteps):
        full = theirs * np.sqrt(1 + sigma**2)
        theirs = scheduler.step((full - bent(full, sigma)) / sigma, t, theirs, eta=0.0).prev_sample
    torch.testing.assert_close(SOLVERS[name](bent, x, sigmas), theirs, rtol=1e-4, atol=1e-5)
    assert (theirs.abs().max() <= 1) == clip


def test_ddim_is_eulers_method() -> None:
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    scheduler.sigmas = torch.tensor(sigmas := uniform_log_sigmas(8, 0.02, 30.0))
    x = theirs = noise(30.0)
    for sigma, t in zip(sigmas, scheduler.timesteps):
        theirs = scheduler.step((theirs - bent(theirs, sigma)) / sigma, t, theirs).prev_sample.double()
    torch.testing.assert_close(ddim(bent, x, sigmas), theirs, rtol=1e-5, atol=1e-5)


def test_heun_equals_diffusers() -> None:
    scheduler = diffusers.HeunDiscreteScheduler()
    scheduler.set_timesteps(8)
    sigmas = uniform_log_sigmas(8, 0.02, 30.0)
    scheduler.sigmas = torch.tensor(np.concatenate([sigmas[:1], np.repeat(sigmas[1:-1], 2), sigmas[-1:]]))
    x = theirs = noise(30.0)
    for i, t in enumerate(scheduler.timesteps):
        at = sigmas[(i + 1) // 2]
        theirs = scheduler.step((theirs - bent(theirs, at)) / at, t, theirs).prev_sample
    torch.testing.assert_close(heun(bent, x, sigmas), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "evaluations"), [("ddim", 10), ("dpm_solver_2m", 10), ("ipndm", 10), ("heun", 19)])
def test_evaluations_per_sample(name: str, evaluations: int) -> None:
    calls = []

    def counted(x: torch.Tensor, sigma: float) -> torch.Tensor:
        calls.append(sigma)
        return bent(x, sigma)

    SOLVERS[name](counted, noise(1.0), uniform_log_sigmas(10, 0.02, 30.0))
    assert len(calls) == evaluations


def test_log_schedule_is_geometric_and_ends_at_zero() -> None:
    np.testing.assert_allclose(uniform_log_sigmas(5, 0.01, 100.0), [100, 10, 1, 0.1, 0.01, 0])


def test_edm_schedule_equals_diffusers() -> None:
    scheduler = diffusers.EulerDiscreteScheduler()
    theirs = scheduler._convert_to_karras(torch.tensor([80.0, 0.002]), 18)
    np.testing.assert_allclose(edm_sigmas(18, 0.002, 80.0)[:-1], theirs, rtol=1e-6)


def test_linspace_schedule_equals_diffusers() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, timestep_spacing="linspace", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(20)
    np.testing.assert_allclose(linspace_sigmas(20), scheduler.sigmas, rtol=1e-4)


def euler(denoise, x, sigmas):
    """Euler's method: one evaluation a step."""
    for sigma, following in pairwise(sigmas):
        x = x + float(following - sigma) * (x - denoise(x, float(sigma))) / float(sigma)
    return x


def test_a_registered_solver_is_asked_for_by_name() -> None:
    """It samples a Gaussian as DDIM does, which is Euler's method; its evaluations are counted by themselves."""
    register("solver", "euler")(euler)
    try:
        settings = SamplerSettings(steps=7, solver="euler")
        assert settings.evaluations == 7
        x = torch.randn(64, 1, 2, 2)
        ours, theirs = (SOLVERS[name](gaussian(0.5), 40 * x, settings.sigmas()) for name in ("euler", "ddim"))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    finally:
        del registry("solver").things["euler"]
    with pytest.raises(MediError, match="solver 'euler' is unknown; known: dpm_solver_2m, ipndm, ddim"):
        SamplerSettings(solver="euler")
