"""Solvers, pure functions of (denoise, x, sigmas); a user adds others by name (`medi.register("solver", ...)`).

All integrate dx/dsigma = (x - D(x, sigma)) / sigma, the probability flow of x = image + sigma * noise (Karras et al.,
NeurIPS 2022, equation 3), from sigmas[0] to sigmas[-1], which is 0 for samples. dpm_solver_2m can also follow the
reverse stochastic equation, whose marginals are the same.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from medi.core.errors import MediError
from medi.core.registry import Registry, registry
from medi.sampling.schedules import Sigmas

ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12))  # weights of the last slopes, the newest first
Denoise = Callable[[Float[Tensor, "n *rest"], float], Float[Tensor, "n *rest"]]
Solver = Callable[[Denoise, Tensor, Sigmas], Tensor]


class Fresh(NamedTuple):
    """Fresh noise of a stochastic solver: the share eta of each step, and standard normal noise for step i as x is."""

    etas: Float[np.ndarray, " steps"]
    draw: Callable[[int], Tensor]


def ddim(
    denoise: Denoise, x: Float[Tensor, "n *rest"], sigmas: Sigmas, clip: float = np.inf
) -> Float[Tensor, "n *rest"]:
    """DDIM of Song et al. (ICLR 2021, equation 12 with eta 0): x' = D + sigma'/sigma (x - D), of first order.

    One evaluation a step. `clip` bounds the image estimate, not the noise estimate, to [-clip, clip], as diffusers'
    DDIMScheduler does by default (clip 1), which the published recipe samples with.
    """
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, float(sigma))
        x = denoised.clamp(-clip, clip) + float(following / sigma) * (x - denoised)
    return x


def dpm_solver_2m(
    denoise: Denoise, x: Float[Tensor, "n *rest"], sigmas: Sigmas, fresh: Fresh | None = None
) -> Float[Tensor, "n *rest"]:
    """DPM-Solver++(2M) of Lu et al. (2022, algorithm 2) for x = image + sigma * noise. One evaluation a step.

    With lambda = -ln sigma and h the step in it: x' = (sigma'/sigma) x - expm1(-h) D', where D' extrapolates the
    last two denoised images to the middle of the step.

    `fresh` makes it SDE-DPM-Solver++(2M) (the same paper, solvers of diffusion SDEs): a step of eta e shrinks x by
    exp(-(1 + e) h) in place of exp(-h), moves the rest of the way to D', and adds fresh noise of deviation
    sigma' sqrt(1 - exp(-2 e h)), which leaves the noise level at sigma'. e is 0 for the flow and 1 for the reverse
    stochastic equation of Song et al. (ICLR 2021, equation 6).
    """
    previous: Tensor | None = None
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, float(sigma))
        if following == 0:
            return denoised
        extrapolated = denoised
        if previous is not None:
            ratio = np.log(sigmas[i - 1] / sigma) / np.log(sigma / following)
            extrapolated = denoised + (denoised - previous) / (2 * float(ratio))
        eta = float(fresh.etas[i]) if fresh else 0.0
        shrink = float(following / sigma) ** (1 + eta)
        x, previous = shrink * x + (1 - shrink) * extrapolated, denoised
        if fresh and eta:
            x = x + float(following * np.sqrt(1 - (following / sigma) ** (2 * eta))) * fresh.draw(i)
    return x


def heun(denoise: Denoise, x: Float[Tensor, "n *rest"], sigmas: Sigmas) -> Float[Tensor, "n *rest"]:
    """Heun's method, EDM's deterministic sampler (Karras et al. 2022, algorithm 1): two evaluations a step, the last
    step to 0 one."""
    for sigma, following in pairwise(sigmas):
        slope = (x - denoise(x, float(sigma))) / float(sigma)
        euler = x + float(following - sigma) * slope
        if following == 0:
            return euler
        end = (euler - denoise(euler, float(following))) / float(following)
        x = x + float(following - sigma) * (slope + end) / 2
    return x


def ipndm(denoise: Denoise, x: Float[Tensor, "n *rest"], sigmas: Sigmas) -> Float[Tensor, "n *rest"]:
    """iPNDM of Zhang and Chen (ICLR 2023): x' = x + (sigma' - sigma) times a mean of the last three slopes.

    The weights are those of Adams and Bashforth for even steps, of lower order in the first two steps; one evaluation a
    step. On uneven steps they are a little wrong, and on a uniform grid of log sigma the method still needs fewer
    evaluations than dpm_solver_2m. The last step to 0 is the denoised image.
    """
    slopes: list[Tensor] = []
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, float(sigma))
        if following == 0:
            return denoised
        slopes = [(x - denoised) / float(sigma), *slopes][: len(ADAMS)]
        mean = sum(weight * slope for weight, slope in zip(ADAMS[len(slopes) - 1], slopes))
        x = x + float(following - sigma) * mean
    return x


def check_bounds(solver: str, is_bounded: bool) -> None:
    """Refuse a solver that clips to [-1, 1] where images are not bounded: latents."""
    if solver == "ddim_clipped" and not is_bounded:
        raise MediError("ddim_clipped bounds pixels, and latents have no bounds; take ddim or dpm_solver_2m")


SOLVERS: Registry[Solver] = registry("solver").fill(
    {
        "dpm_solver_2m": dpm_solver_2m,
        "ipndm": ipndm,
        "ddim": ddim,
        "ddim_clipped": partial(ddim, clip=1.0),
        "heun": heun,
    }
)
