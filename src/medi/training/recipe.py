"""How a model is trained: everything counted in images."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from medi.core.devices import Precision
from medi.core.errors import MediError
from medi.core.settings import validated
from medi.models.conditioning import Dropout

Over = Literal["combination", "class", "nested"]


@validated
@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Durations are in images.

    schedule: of the learning rate after the warm-up. "linear" is constant and falls to zero over the last `decay`
    share; "cosine" falls from the start; both end after `horizon` images (0: with training). optimizer: "adamw", or
    "muon" for convolutions and attention with AdamW for all else: it learns more from each image and takes a constant
    time for each update, which larger batches share. betas: of AdamW; weight_decay: of both.
    `balance` b draws a group of n images in proportion to n^(1 - b): 0 as they come, 1 every group alike. Groups
    (`balance_over`) are classes, combinations of class and first attribute, or nested: first a class, then one of its
    combinations, so that a class with few combinations is not drawn rarely.
    noise: "log_normal", ln sigma normal with `noise_mean` and `noise_std` (EDM, table 1), or "ddpm", uniform steps.
    dihedral: turn and mirror images at random, as tissue has no upright.
    dropout: share of draws in which a condition is replaced by its null vector, independently per condition: a number
    for all, or by name ({class: 0.1, site: 0.2}), others never.
    ema_gamma: how far the average of weights looks back, less for a larger number; 1e9 is no average. micro_batch:
    images at once, 0 for the whole batch; a batch in parts needs less memory and gives the same update. compile:
    torch.compile, which needs a C++ compiler on a CPU. precision: of convolutions and matrix products; weights and
    averages are fp32 always. auto is bf16 on a GPU and on a CPU with units for it, else fp32. Every `save_every`
    images: keep, how many averages stay in snapshots/; sheets, whether a grid of samples is drawn; tensorboard,
    whether the log goes there too. early_average: the average after so many images stays in early.safetensors, the
    worse model of autoguidance; 0 is none.
    autoencoder: "diffusers:FOLDER" or "taef2:FOLDER", whose latents are denoised (`medi.models.autoencoder`); "" is
    pixels. least_psnr: dB that its round trip of the training patches must keep, or it is refused; 0 takes any.
    shard_model: cut weights, moments and averages among the processes that train together, in place of all of them in
    each; the update and the files stay the same, and a training may go on with or without it. It needs torchrun.
    slide_colours: vary the colours of patches of combinations that few slides show, by as much as slides differ
    (`medi.training.colours`).
    init: the model file whose weights the network begins with (`medi.models.first_weights`); "" draws them from the
    seed. Conditions are always learned anew.

    >>> Recipe(images=1600, batch=16).rate(0)
    3.2e-05
    >>> Recipe(optimizer="adam")
    Traceback (most recent call last):
    medi.core.errors.MediError: Recipe: optimizer is 'adam'; input should be 'adamw' or 'muon'
    """

    images: int = 56_000
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: int = 1_000
    schedule: Literal["linear", "cosine"] = "linear"
    decay: float = 0.4
    horizon: int = 0
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    balance: float = 0.5
    balance_over: Over = "combination"
    noise: Literal["log_normal", "ddpm"] = "log_normal"
    noise_mean: float = -1.0
    noise_std: float = 1.2
    dihedral: bool = True
    dropout: Dropout = 0.0
    ema_gamma: float = 16.0
    save_every: int = 8_000
    micro_batch: int = 0
    compile: bool = False
    precision: Precision = "auto"
    keep: int = 0
    sheets: bool = False
    tensorboard: bool = False
    early_average: int = 0
    init: str = ""
    autoencoder: str = ""
    least_psnr: float = 28.0
    shard_model: bool = False
    slide_colours: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1 or self.images < self.batch:
            raise MediError(f"training needs at least one batch: images {self.images}, batch {self.batch}")
        if self.save_every % self.batch:
            raise MediError(f"save_every {self.save_every} must be a multiple of the batch, {self.batch}")
        if self.early_average % self.save_every or not 0 <= self.early_average < self.images:
            raise MediError(
                f"early_average must be a multiple of save_every, {self.save_every}, and less than images, "
                f"{self.images}, not {self.early_average}"
            )
        if self.shard_model and self.compile:
            raise MediError("shard_model and compile do not go together; leave one of them out")
        if self.slide_colours and self.autoencoder:
            raise MediError("slide_colours varies pixels, and an autoencoder's latents are kept: leave out one of both")
        rates = self.dropout.values() if isinstance(self.dropout, dict) else [self.dropout]
        if not all(0 <= rate <= 1 for rate in rates):
            raise MediError(f"dropout is a share of draws, 0 to 1, not {self.dropout}")

    def changed(self, **changes: Any) -> "Recipe":
        """This recipe with other settings. States are saved after whole batches: save_every follows a new batch.

        >>> Recipe().changed(batch=48).save_every
        7968
        """
        batch = changes.get("batch", self.batch)
        if isinstance(batch, int) and batch > 0 and "save_every" not in changes:
            changes["save_every"] = max(self.save_every // batch, 1) * batch
        return replace(self, **changes)

    def rate(self, images: int) -> float:
        """Learning rate after so many images: linear warm-up, then the schedule."""
        horizon, rising = self.horizon or self.images, (images + self.batch) / max(self.warmup, 1)
        if self.schedule == "cosine":
            passed = min(max(images - self.warmup, 0) / max(horizon - self.warmup, 1), 1.0)
            return self.learning_rate * min(1.0, rising) * (1 + math.cos(math.pi * passed)) / 2
        left = (horizon - images) / max(self.decay * horizon, 1)
        return self.learning_rate * min(1.0, rising, max(left, 0.0))
