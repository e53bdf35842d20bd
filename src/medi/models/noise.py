"""Noise levels: those of DDPM's steps, and how the loss weighs each."""

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

SIGMA_DATA = 0.5  # assumed standard deviation of images in [-1, 1]
DDPM_STEPS, DDPM_BETAS = 1000, (1e-4, 0.02)  # linear (Ho et al., NeurIPS 2020, section 4)


def ddpm_sigmas() -> Float64[np.ndarray, " steps"]:
    """Noise levels of DDPM's steps for x = image + sigma * noise, ascending: sigma_t = sqrt((1 - a_t) / a_t).

    a_t is the product of 1 - beta up to step t of 1000 linear betas.
    """
    kept = np.cumprod(1.0 - np.linspace(*DDPM_BETAS, DDPM_STEPS))
    return np.sqrt((1.0 - kept) / kept)


def loss_weight(sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """EDM's lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: the loss of a
    fresh network is 1 at every sigma (Karras et al., NeurIPS 2022, table 1)."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
