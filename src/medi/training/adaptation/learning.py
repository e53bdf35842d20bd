"""What an adaptation learns: a vector, low-rank changes, all weights."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from medi.cohort.schema import Attribute
from medi.cohort.table import Cohort, slide_units
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.progress import Tally
from medi.core.settings import validated
from medi.models.checkpoint import Checkpoint
from medi.models.denoiser import Denoiser
from medi.training.adaptation.classes import class_posteriors, soft_labels, unlabelled
from medi.training.adaptation.levels import place
from medi.training.adaptation.low_rank import weights_of, with_changes
from medi.training.data import Batch, Batches, views_in
from medi.training.loss import DenoisingLoss
from medi.training.recipe import Recipe

HELD_BACK = 0.2  # share of the patches that decides
JUDGED = 384  # draws of a held-back loss
VECTOR, LOW_RANK, TUNED = "vector", "low_rank", "tuned"  # what was learned: the vector alone, or weights too
Counters = Int64[np.ndarray, " n"]
Loss = Callable[[Counters], Float[Tensor, ""]]
Draw = Callable[[Counters], Batch]


@validated
@dataclass(frozen=True)
class AdaptSettings:
    """Images drawn for the vector (twice where classes are not known), for low-rank changes and for all weights; rates
    at the start, falling to 0. Half of each batch of the tuning is rehearsal."""

    vector_images: int = 2_400
    vector_rate: float = 0.03
    tune_images: int = 3_200
    low_rank_rate: float = 3e-3
    tune_rate: float = 5e-4
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 2 or min(self.vector_images, self.tune_images) < self.batch:
            raise MediError(f"an adaptation needs at least one batch of two images: {self!r}")


@dataclass(frozen=True)
class Task:
    """What all steps share: how the model was trained (its noise levels, its dropout), the settings, the progress."""

    checkpoint: Checkpoint
    attribute: str
    settings: AdaptSettings
    tally: Tally

    def learn_vector(self, denoiser: Denoiser, patches: Cohort) -> None:
        """The new level's row of the table; no other row gets a gradient, so that AdamW without decay leaves them."""
        table = denoiser.get_submodule(place(denoiser.schema, self.attribute)[0].removesuffix(".weight"))
        draw, loss = self._draws(denoiser, patches, dropout=0.0, balance=0.0), DenoisingLoss(denoiser)
        denoiser.requires_grad_(False)
        self._descend(
            list(table.requires_grad_(True).parameters()),
            lambda counters: loss(draw(counters)),
            self.settings.vector_images,
            self.settings.vector_rate,
        )
        denoiser.requires_grad_(True)

    def find_vector(self, denoiser: Denoiser, fitted: Cohort, held: Cohort) -> tuple[Cohort, Cohort]:
        """Learn the vector, and again from the classes that it suggests; returns both parts with these classes."""
        self.learn_vector(denoiser, fitted)
        if not (unlabelled(fitted, denoiser.schema) or unlabelled(held, denoiser.schema)):
            return fitted, held
        classes, seed = denoiser.schema.classes.levels, self.settings.seed
        odds = [class_posteriors(denoiser, self.checkpoint, part, seed) for part in (fitted, held)]
        fitted, held = (soft_labels(part, classes, found) for part, found in zip((fitted, held), odds))
        self.learn_vector(denoiser, fitted)
        return fitted, held

    def tuned(self, denoiser: Denoiser, fitted: Cohort, rehearsal: Cohort) -> dict[str, Denoiser]:
        """The denoiser as it is, a copy with low-rank changes, and one with all weights tuned."""
        new, old = (self._draws(denoiser, fitted, balance=0.0), self._draws(denoiser, rehearsal))
        small, whole = with_changes(denoiser, seed=self.settings.seed), copy.deepcopy(denoiser)
        self._tune(small, weights_of(small), new, old, self.settings.low_rank_rate)
        self._tune(whole, list(whole.parameters()), new, old, self.settings.tune_rate)
        return {VECTOR: denoiser, LOW_RANK: small, TUNED: whole}

    def _tune(self, denoiser: Denoiser, weights: list[nn.Parameter], new: Draw, old: Draw, rate: float) -> None:
        """Half of each batch new patches, half old ones."""
        loss = partial(_half_and_half, DenoisingLoss(denoiser), new, old)
        self._descend(weights, loss, self.settings.tune_images, rate)

    @torch.inference_mode()
    def loss(self, denoiser: Denoiser, patches: Cohort) -> float:
        """The training loss on a few hundred draws, the same at every call."""
        draw, loss = self._draws(denoiser, patches, dropout=0.0), DenoisingLoss(denoiser)
        starts = range(0, JUDGED, 64)
        return float(np.mean([loss(draw(np.arange(start, start + 64) + 10**9)).item() for start in starts]))

    def _draws(self, denoiser: Denoiser, patches: Cohort, **changes: float) -> Draw:
        """Batches of the patches as the model's recipe draws them, with changes; a condition that is not known is
        dropped where training never met a row without it."""
        schema, recipe = denoiser.schema, Recipe(**{**self.checkpoint.recipe, **changes})
        views = views_in(denoiser.space, patches.images)
        batches = Batches(patches, schema.encode(patches.table), recipe, self.settings.seed, views)
        never = [not self.checkpoint.met_missing(a) for a in schema.conditions]
        return partial(_told, batches, denoiser, torch.tensor(never))

    def _descend(self, weights: list[nn.Parameter], loss: Loss, images: int, rate: float) -> None:
        """AdamW with a rate that falls to 0."""
        optimizer, size = torch.optim.AdamW(weights, rate, weight_decay=0.0), self.settings.batch
        for start in range(0, images, size):
            counters = np.arange(start, min(start + size, images))
            loss(counters).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - start / images)
            optimizer.step()
            optimizer.zero_grad()
            self.tally.add(len(counters))


def _told(batches: Batches, denoiser: Denoiser, never: Bool[Tensor, " k"], counters: Counters) -> Batch:
    """A batch in which conditions that are not known are dropped where training `never` met a row without them."""
    batch, conditions = batches(counters, denoiser.device), denoiser.schema.conditions
    unknown = torch.stack([_unknown(batch.codes[a.name], a) for a in conditions], dim=1)
    return replace(batch, dropped=batch.dropped | (unknown & never.to(unknown.device)))


def _half_and_half(loss: DenoisingLoss, new: Draw, old: Draw, counters: Counters) -> Float[Tensor, ""]:
    """The mean of the losses on new and on old patches, half of the draws each."""
    half = len(counters) // 2
    return (loss(new(counters[:half])) + loss(old(counters[half:]))) / 2


def _unknown(codes: Tensor, attribute: Attribute) -> Tensor:
    return codes < 0 if attribute.kind == "categorical" else codes.isnan()


def hold_back(patches: Cohort, seed: int) -> tuple[Cohort, Cohort]:
    """The patches to learn from, and those that decide: whole slides where there are several, else single patches."""
    table = patches.table
    units = slide_units(table)
    units = units if units.nunique() > 4 else table["sample_id"]
    names = sorted(set(units))
    order = seeds.generator("held back", seed).permutation(len(names))
    aside = {names[i] for i in order[: max(round(HELD_BACK * len(names)), 1)]}
    held = units.isin(aside).to_numpy()
    return patches.select(~held), patches.select(held)
