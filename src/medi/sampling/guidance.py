"""Guidance: the denoiser drawn away from a worse estimate, or towards a class as a classifier knows it.

D = D_full + sum_k w_k (D_full - D_without_k) + w_auto (D_full - D_worse): classifier-free guidance (Ho & Salimans,
2022, equation 6, with one weight per condition), within an interval of noise levels (Kynkaanniemi et al., NeurIPS
2024), and autoguidance (Karras et al., NeurIPS 2024, "Guiding a diffusion model with a bad version of itself").

Classifier guidance (Dhariwal & Nichol, NeurIPS 2021, section 4.1) adds w sigma^2 grad ln p(class | x, sigma): the
score of x is (D - x) / sigma^2, and that of the class comes on top of it, w times.

Candidates: of several images for the same row the classifier keeps the one whose class it is surest of (Razavi et al.,
NeurIPS 2019, "classifier based rejection sampling").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medi.cohort.schema import Schema
from medi.core.errors import MediError
from medi.core.settings import validated
from medi.models.conditioning import Dropout, dropout_rates
from medi.models.denoiser import Denoiser
from medi.models.level_mix import condition
from medi.sampling.solvers import Denoise

Interval = tuple[float, float] | None  # lowest and highest sigma; None is all
MOST_CANDIDATES = 100


@runtime_checkable
class Judge(Protocol):
    """A classifier of noisy images, as guidance sees it (`medi.models.classifier.NoisyClassifier`)."""

    def labels(self, rows: pd.DataFrame) -> Int64[Tensor, " n"]:
        """The number of the class that each row asks for, -1 for none."""
        ...

    def slope(self, x: Float[Tensor, "n c h w"], sigma: float, labels: Int64[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """The gradient of ln p(label | x, sigma) to x, 0 for -1."""
        ...

    def sureness(
        self, images: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """ln p(label | image), of finished images that are shown under so much noise as the classifier knows."""
        ...


def inside(sigma: float, interval: Interval) -> bool:
    return interval is None or bool(interval[0] <= sigma <= interval[1])


def check_interval(interval: Interval, what: str) -> None:
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise MediError(f"{what} goes from a lower to a higher sigma, not {interval}")


def as_words(interval: Interval) -> str:
    return "" if interval is None else f" for sigma {interval[0]:g} to {interval[1]:g}"


@validated
@dataclass(frozen=True)
class Guidance:
    """Weights per condition, and those of autoguidance and of a classifier; 0 is none (what others call 1 + w is 1).

    Outside `interval` (lowest and highest sigma) nothing is guided and nothing is paid for it. candidates: images that
    are made for each row, of which the classifier keeps the one whose class it is surest of; each costs a whole image.

    >>> str(Guidance(classifier=1, candidates=2))
    'classifier=1, best of 2 candidates'
    """

    weights: dict[str, float] = field(default_factory=dict)
    autoguidance: float = 0.0
    interval: Interval = None
    classifier: float = 0.0
    candidates: int = 1

    def __post_init__(self) -> None:
        check_interval(self.interval, "a guidance interval")
        if not all(map(math.isfinite, (*self.weights.values(), self.autoguidance, self.classifier))):
            raise MediError(f"the weights of guidance are finite numbers, not {self}")
        if self.classifier < 0:
            raise MediError(f"the weight of the classifier is 0 or more, not {self.classifier:g}")
        if not 1 <= self.candidates <= MOST_CANDIDATES:
            raise MediError(f"of each image there are 1 to {MOST_CANDIDATES} candidates, not {self.candidates}")

    @property
    def needs_classifier(self) -> bool:
        """Whether a classifier guides, chooses, or both."""
        return bool(self.classifier) or self.candidates > 1

    def __str__(self) -> str:
        parts = [f"{name}={weight:g}" for name, weight in sorted(self.weights.items()) if weight]
        parts += [f"autoguidance={self.autoguidance:g}"] if self.autoguidance else []
        parts += [f"classifier={self.classifier:g}"] if self.classifier else []
        words = [", ".join(parts) + as_words(self.interval)] if parts else []
        return ", ".join(words + [f"best of {self.candidates} candidates"] * (self.candidates > 1))

    def check(self, schema: Schema, dropout: Dropout, has_worse: bool, has_classifier: bool = False) -> None:
        """Refuse what a model of this schema, trained with this conditioning dropout, cannot do; `has_worse` says
        whether there is a worse model to draw away from, `has_classifier` whether there is a classifier."""
        for name, weight in self.weights.items():
            schema.attribute(name)
            if weight and not dropout_rates(dropout, [name]).any():
                raise MediError(
                    f"this model was trained without conditioning dropout of {name} and does not know images without "
                    "it: use autoguidance, or train with dropout (training: {dropout: 0.1})"
                )
        if bool(self.autoguidance) != has_worse:
            raise MediError("autoguidance needs both a worse model and a weight")
        if self.needs_classifier and not has_classifier:
            raise MediError("guidance by a classifier, and the choice among candidates, need a classifier")
        if has_classifier and not self.needs_classifier:
            raise MediError("the classifier needs a weight above 0, or candidates to choose from")


def guided(
    denoiser: Denoiser,
    rows: pd.DataFrame,
    guidance: Guidance,
    worse: Denoiser | None = None,
    classifier: Judge | None = None,
) -> Denoise:
    """D for these rows. Without guidance it is one evaluation of the network, else one more for each weight."""
    full = bare(denoiser, condition(denoiser, rows))
    others = [
        (weight, bare(denoiser, condition(denoiser, rows, dropped=[name])))
        for name, weight in guidance.weights.items()
        if weight
    ]
    if worse is not None and guidance.autoguidance:
        others.append((guidance.autoguidance, bare(worse, condition(worse, rows))))
    found = extrapolated(full, others, guidance.interval) if others else full
    if classifier is None or not guidance.classifier:
        return found
    return classified(found, classifier, classifier.labels(rows), guidance.classifier, guidance.interval)


def bare(denoiser: Denoiser, z: Float[Tensor, "n d"]) -> Denoise:
    """D with its conditions fixed, one noise level for all."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return denoiser(x, torch.full((len(x),), sigma, device=x.device), z)

    return denoise


def extrapolated(full: Denoise, others: Sequence[tuple[float, Denoise]], interval: Interval = None) -> Denoise:
    """D_full + sum of weight (D_full - D_other) where sigma lies in the interval, D_full alone elsewhere."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        image = full(x, sigma)
        if not inside(sigma, interval):
            return image
        return image + torch.stack([weight * (image - other(x, sigma)) for weight, other in others]).sum(dim=0)

    return denoise


def classified(
    plain: Denoise, classifier: Judge, labels: Int64[Tensor, " n"], weight: float, interval: Interval = None
) -> Denoise:
    """D + weight sigma^2 grad ln p(label | x, sigma) where sigma lies in the interval, D alone elsewhere."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        image = plain(x, sigma)
        if not inside(sigma, interval):
            return image
        return image + weight * sigma**2 * classifier.slope(x, sigma, labels)

    return denoise
