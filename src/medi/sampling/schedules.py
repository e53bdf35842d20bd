"""Schedules: the noise levels that a solver goes through, from the highest to 0."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from medi.models.noise import DDPM_STEPS, ddpm_sigmas

Sigmas = Float[np.ndarray, " k"]


def uniform_log_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Float[np.ndarray, " steps_and_one"]:
    """`steps` noise levels from sigma_max to sigma_min, uniform in log sigma, and a final 0."""
    return np.append(np.geomspace(sigma_max, sigma_min, steps), 0.0)


def edm_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Float[np.ndarray, " steps_and_one"]:
    """EDM's levels, uniform in sigma^(1/7), and a final 0 (Karras et al. 2022, equation 5 with rho = 7)."""
    return np.append(np.linspace(sigma_max ** (1 / 7), sigma_min ** (1 / 7), steps) ** 7, 0.0)


def leading_sigmas(steps: int, sigma_min: float = 0.0, sigma_max: float = 0.0) -> Float[np.ndarray, " steps_and_one"]:
    """DDPM's levels at every (1000 // steps)-th time from 0, and a final 0: the spacing of diffusers' DDIMScheduler.

    The range is that of the betas, so that sigma_min and sigma_max do not count.
    """
    times = np.arange(steps)[::-1] * (DDPM_STEPS // steps)
    return np.append(ddpm_sigmas()[times], 0.0)


def linspace_sigmas(steps: int, sigma_min: float = 0.0, sigma_max: float = 0.0) -> Float[np.ndarray, " steps_and_one"]:
    """DDPM's levels at steps + 1 even times from 999 to 0, the last one replaced by 0: the spacing of diffusers'
    DPMSolverMultistepScheduler. The range is that of the betas."""
    times = np.linspace(DDPM_STEPS - 1, 0, steps + 1).round().astype(int)
    return np.append(ddpm_sigmas()[times[:-1]], 0.0)


SCHEDULES: dict[str, Callable[[int, float, float], Sigmas]] = {
    "log": uniform_log_sigmas,
    "edm": edm_sigmas,
    "leading": leading_sigmas,
    "linspace": linspace_sigmas,
}
