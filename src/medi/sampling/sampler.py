"""Sampling: images from rows of a table and a denoiser; sample i is sample i (P3)."""

from dataclasses import dataclass, field
from functools import partial
from typing import get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from medi.cohort.pixels import to_uint8
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.denoiser import Denoiser, Precision, compile_failed, in_bf16
from medi.sampling.guidance import Guidance, Interval, as_words, check_interval, guided, inside
from medi.sampling.solvers import SCHEDULES, SOLVERS, Fresh, dpm_solver_2m


@dataclass(frozen=True)
class SamplerSettings:
    """Solver, schedule and number of noise levels, their range, guidance, the internal batch and the precision.

    solver: dpm_solver_2m, ddim, ddim_clipped (one evaluation a step) or heun (two); schedule: log, edm, or DDPM's
    leading and linspace, whose range is that of the betas. The published recipe samples with ddim_clipped, leading,
    100 steps. precision: of convolutions and matrix products; auto is bf16 on machines with units for it, which moves
    pixels by one grey level at most on the demo, but fp32 for noise prediction, whose errors grow with sigma. compile:
    torch.compile, for plans of tens of thousands of images; it needs a C++ compiler on a CPU. eta: fresh noise in each
    step of dpm_solver_2m, 0 is none and 1 the reverse stochastic equation, within `eta_interval` of sigma where given.
    """

    steps: int = 16
    sigma_min: float = 0.02
    sigma_max: float = 40.0
    batch: int = 128
    solver: str = "dpm_solver_2m"
    schedule: str = "log"
    guidance: Guidance = field(default_factory=Guidance)
    precision: str = "auto"
    compile: bool = False
    eta: float = 0.0
    eta_interval: Interval = None

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000 or not 0 < self.sigma_min < self.sigma_max:
            raise MediError(f"a sampler needs 1 to 1000 steps and 0 < sigma_min < sigma_max, not {self!r}")
        if self.batch < 1:
            raise MediError(f"the internal batch must be at least 1, not {self.batch}")
        if self.solver not in SOLVERS:
            raise MediError(f"solver {self.solver!r} is unknown; known: {', '.join(SOLVERS)}")
        if self.schedule not in SCHEDULES:
            raise MediError(f"schedule {self.schedule!r} is unknown; known: {', '.join(SCHEDULES)}")
        if self.precision not in get_args(Precision):
            raise MediError(f"precision {self.precision!r} is unknown; known: {', '.join(get_args(Precision))}")
        if not 0 <= self.eta < float("inf") or (self.eta and self.solver != "dpm_solver_2m"):
            raise MediError(
                f"eta {self.eta:g} with {self.solver}: fresh noise is 0 or more, and for dpm_solver_2m alone"
            )
        check_interval(self.eta_interval, "eta_interval")

    def sigmas(self) -> Float[np.ndarray, " k"]:
        return SCHEDULES[self.schedule](self.steps, self.sigma_min, self.sigma_max)

    def etas(self) -> Float[np.ndarray, " steps"]:
        """Share of fresh noise in each step: eta where the step starts within the interval, else 0."""
        return np.array([self.eta * inside(sigma, self.eta_interval) for sigma in self.sigmas()[:-1]])

    @property
    def evaluations(self) -> int:
        """Evaluations of a network that an image takes, those of guidance counted."""
        sigmas, others = self.sigmas()[:-1], sum(map(bool, (*self.guidance.weights.values(), self.guidance.weak)))
        if self.solver == "heun":  # each step again where it ends, but for the last, which ends without noise
            sigmas = np.concatenate([sigmas, sigmas[1:]])
        return len(sigmas) + others * sum(inside(sigma, self.guidance.interval) for sigma in sigmas)

    def __str__(self) -> str:
        sigmas, noise = self.sigmas(), f", eta {self.eta:g}{as_words(self.eta_interval)}" if self.eta else ""
        return f"{self.solver}, {self.steps} steps, {self.schedule} {sigmas[0]:g} to {sigmas[-2]:g}{noise}"


@torch.inference_mode()
def sample_images(
    denoiser: Denoiser, rows: pd.DataFrame, seed: int, settings: SamplerSettings, weak: Denoiser | None = None
) -> UInt8[np.ndarray, "n h w 3"]:
    """One image per row of a table with `noise_id` and the columns of the model's schema, n <= settings.batch.

    Cells hold levels, numbers, missing values, or mixes of levels (medi.diffusion.mixing). The batch is padded to its
    full size, so that an image does not depend on how many stand beside it (P3).
    """
    padded = rows.iloc[np.arange(settings.batch) % len(rows)]
    size, sigmas, solve = denoiser.settings.size, settings.sigmas(), SOLVERS[settings.solver]

    def drawn(seed: int) -> Float[Tensor, "n 3 h w"]:
        return torch.from_numpy(seeds.noise(seed, list(padded["noise_id"]), (3, size, size))).to(denoiser.device)

    if settings.eta:
        fresh = Fresh(settings.etas(), lambda step: drawn(seeds.integer("eta", seed, step)))
        solve = partial(dpm_solver_2m, fresh=fresh)
    for model in filter(None, (denoiser, weak) if settings.compile else ()):
        model.compile_once()
    noise = drawn(seed)
    denoise = guided(denoiser, padded, settings.guidance, weak)
    exact = settings.precision == "auto" and denoiser.settings.parameterisation == "ddpm"
    with torch.autocast(denoiser.device.type, torch.bfloat16, enabled=not exact and in_bf16(settings.precision)):
        try:
            images = solve(denoise, noise * float(sigmas[0]), sigmas)
        except RuntimeError as error:
            if settings.compile and "memory" not in str(error):
                raise compile_failed(error) from error
            raise
    return to_uint8(images[: len(rows)].cpu().numpy())
