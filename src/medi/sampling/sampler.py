"""Sampling: images from rows of a table and a denoiser; sample i is sample i (P3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from medi.core import seeds
from medi.core.devices import Precision, compile_failed, in_bf16
from medi.core.errors import MediError
from medi.core.settings import validated
from medi.models.denoiser import Denoiser
from medi.sampling.guidance import Guidance, Interval, Judge, as_words, check_interval, guided, inside
from medi.sampling.schedules import SCHEDULES
from medi.sampling.solvers import SOLVERS, Denoise, Fresh, check_bounds, dpm_solver_2m


@validated
@dataclass(frozen=True)
class SamplerSettings:
    """Solver, schedule and number of noise levels, their range, guidance, the internal batch and the precision.

    solver: dpm_solver_2m, ipndm, ddim, ddim_clipped (one evaluation a step), heun (two), or a registered one; schedule:
    log, edm, or DDPM's leading and linspace, whose range is that of the betas. The published recipe samples with
    ddim_clipped, leading, 100 steps. precision: of convolutions and matrix products; auto is bf16 on machines with
    units for it, which moves pixels by one grey level at most on the demo, but fp32 for noise prediction, whose
    errors grow with sigma. compile: torch.compile, for plans of tens of thousands of images; it needs a C++ compiler
    on a CPU. eta: fresh noise in each step of dpm_solver_2m, 0 is none and 1 the reverse stochastic equation, within
    `eta_interval` of sigma where given.
    """

    steps: int = 16
    sigma_min: float = 0.02
    sigma_max: float = 40.0
    batch: int = 128
    solver: str = "dpm_solver_2m"
    schedule: str = "log"
    guidance: Guidance = field(default_factory=Guidance)
    precision: Precision = "auto"
    compile: bool = False
    eta: float = 0.0
    eta_interval: Interval = None

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000 or not 0 < self.sigma_min < self.sigma_max:
            raise MediError(f"a sampler needs 1 to 1000 steps and 0 < sigma_min < sigma_max, not {self!r}")
        if self.batch < 1:
            raise MediError(f"the internal batch must be at least 1, not {self.batch}")
        SOLVERS[self.solver]  # refuses an unknown name
        if self.schedule not in SCHEDULES:
            raise MediError(f"schedule {self.schedule!r} is unknown; known: {', '.join(SCHEDULES)}")
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
        """Evaluations of a denoiser that an image takes, those of guidance and of all its candidates counted; a
        classifier's are not."""
        asked = self._asked()
        others = sum(map(bool, (*self.guidance.weights.values(), self.guidance.autoguidance)))
        each = len(asked) + others * sum(inside(sigma, self.guidance.interval) for sigma in asked)
        return each * self.guidance.candidates

    def check_classifier(self, known: tuple[float, float]) -> None:
        """Refuse guidance by a classifier that knows these noise levels alone, where no evaluation lies at one."""
        guided = [sigma for sigma in self._asked() if inside(sigma, self.guidance.interval)]
        if self.guidance.classifier and not any(inside(sigma, known) for sigma in guided):
            raise MediError(
                f"the weight of the classifier would change nothing: it knows sigma {known[0]:.2g} to {known[1]:.2g}, "
                f"and none of the {len(guided)} guided evaluations of {self} lies there: take more steps, or another "
                "interval"
            )

    def _asked(self) -> list[float]:
        """The noise levels at which the solver asks for the denoised image."""
        asked: list[float] = []
        SOLVERS[self.solver](partial(_noted, asked), torch.zeros(1), self.sigmas())
        return asked

    def __str__(self) -> str:
        sigmas, noise = self.sigmas(), f", eta {self.eta:g}{as_words(self.eta_interval)}" if self.eta else ""
        return f"{self.solver}, {self.steps} steps, {self.schedule} {sigmas[0]:g} to {sigmas[-2]:g}{noise}"


def sampler_settings(guidance: Guidance | Mapping[str, Any] | None = None, **settings: Any) -> SamplerSettings:
    """Settings of a sampler; guidance may be weights by condition, and the other fields of `Guidance` beside them."""
    if not isinstance(guidance, Guidance):
        given, names = dict(guidance or {}), [field.name for field in fields(Guidance)]
        others = {name: given.pop(name) for name in names if name in given}
        guidance = Guidance(**others | {"weights": {**others.get("weights", {}), **given}})
    return SamplerSettings(**settings, guidance=guidance)


def _noted(asked: list[float], x: Tensor, sigma: float) -> Tensor:
    """In place of a denoiser: writes down the noise level that it is asked for."""
    asked.append(sigma)
    return x


def draw(denoiser: Denoiser, rows: pd.DataFrame, seed: int) -> UInt8[np.ndarray, "n h w 3"]:
    """`sample_images` as nobody said otherwise, all rows in one batch."""
    return sample_images(denoiser, rows, seed, SamplerSettings(batch=len(rows)))


def sample_images(
    denoiser: Denoiser,
    rows: pd.DataFrame,
    seed: int,
    settings: SamplerSettings,
    worse: Denoiser | None = None,
    classifier: Judge | None = None,
) -> UInt8[np.ndarray, "n h w 3"]:
    """One image per row of a table with `noise_id` and the columns of the model's schema.

    Entries are levels, numbers, missing values, or mixes of levels (`medi.models.level_mix`). Each batch is padded to
    its full size, so that an image does not depend on how many stand beside it (P3). worse: the model that autoguidance
    draws away from. classifier: the one that guides, or chooses among candidates, which begin with different noise.
    """
    check_bounds(settings.solver, denoiser.space.is_bounded)
    parts = [rows.iloc[start : start + settings.batch] for start in range(0, len(rows), settings.batch)]
    size = denoiser.settings.size
    made = [_sample_batch(denoiser, part, seed, settings, worse, classifier) for part in parts]
    return np.concatenate(made or [np.empty((0, size, size, 3), dtype=np.uint8)])


@torch.inference_mode()
def _sample_batch(
    denoiser: Denoiser,
    rows: pd.DataFrame,
    seed: int,
    settings: SamplerSettings,
    worse: Denoiser | None,
    classifier: Judge | None,
) -> UInt8[np.ndarray, "n h w 3"]:
    padded = rows.iloc[np.arange(settings.batch) % len(rows)]
    for model in filter(None, (denoiser, worse) if settings.compile else ()):
        model.compile_once()
    denoise = guided(denoiser, padded, settings.guidance, worse, classifier)
    images = _solved(denoiser, padded, seed, settings, denoise)
    if classifier is not None and settings.guidance.candidates > 1:
        labels, noise = classifier.labels(padded), _drawn(denoiser, padded, seeds.integer("sureness", seed))
        sure = _sureness(classifier, images, noise, labels)
        for number in range(1, settings.guidance.candidates if (labels >= 0).any() else 1):
            other = _solved(denoiser, padded, seeds.integer("candidate", seed, number), settings, denoise)
            surer = _sureness(classifier, other, noise, labels)
            images = torch.where((surer > sure)[:, None, None, None], other, images)
            sure = torch.maximum(sure, surer)
    return denoiser.space.decode(images[: len(rows)])


def _sureness(
    classifier: Judge,
    images: Float[Tensor, "n c h w"],
    noise: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """How sure the classifier is of the class of each image; least where it has no number for it."""
    return classifier.sureness(images, noise, labels).nan_to_num(nan=-torch.inf)


def _solved(
    denoiser: Denoiser, rows: pd.DataFrame, seed: int, settings: SamplerSettings, denoise: Denoise
) -> Float[Tensor, "n c h w"]:
    """The images that the solver makes of the noise of this seed."""
    noise, solve, sigmas = partial(_drawn, denoiser, rows), SOLVERS[settings.solver], settings.sigmas()
    if settings.eta:
        fresh = Fresh(settings.etas(), lambda step: noise(seeds.integer("eta", seed, step)))
        solve = partial(dpm_solver_2m, fresh=fresh)
    exact = settings.precision == "auto" and denoiser.settings.parameterisation == "ddpm"
    with torch.autocast(denoiser.device.type, torch.bfloat16, enabled=not exact and in_bf16(settings.precision)):
        try:
            return solve(denoise, noise(seed) * float(sigmas[0]), sigmas)
        except RuntimeError as error:
            if settings.compile and "memory" not in str(error):
                raise compile_failed(error) from error
            raise


def _drawn(denoiser: Denoiser, rows: pd.DataFrame, seed: int) -> Float[Tensor, "n c h w"]:
    """The noise of each row, on the denoiser's device."""
    shape = denoiser.settings.shape
    return torch.from_numpy(seeds.noise(seed, list(rows["noise_id"]), shape)).to(denoiser.device)
