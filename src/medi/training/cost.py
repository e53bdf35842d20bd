"""What a training costs, before it begins: parameters, operations, and time on this machine."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.devices import device, in_bf16
from medi.core.numbers import digits
from medi.core.seeds import generator
from medi.models.cost import duration, flop, gflop_per_image, weightless
from medi.models.denoiser import Denoiser
from medi.training.classifier import ClassifierSettings, ClassifierTraining
from medi.training.data import Views
from medi.training.latents import Ground, network_of
from medi.training.presets import Preset
from medi.training.recipe import Recipe
from medi.training.trainer import Trainer, fresh_denoiser

TRIAL = 1.0  # seconds
AT_ONCE = 16  # images of the trial on a CPU


@dataclass(frozen=True)
class Cost:
    """Of a whole training: forward and backward passes, the latter counted as two.

    >>> print(Cost(1_130_000, 0.37, 100_000, 150.0))
    1.1 M parameters, 0.37 GFLOP an image, 37 TFLOP in all; about 11 minutes here (150 images/s by a short trial)
    """

    parameters: int
    gflop_per_image: float
    images: int
    images_per_second: float

    @property
    def seconds(self) -> float:
        """How long the training takes at this rate."""
        return self.images / self.images_per_second

    def __str__(self) -> str:
        each, whole = flop(self.gflop_per_image), flop(self.gflop_per_image * self.images)
        size = f"{self.parameters / 1e6:.1f} M" if self.parameters >= 1e5 else f"{self.parameters:,}"
        rate = f"{digits(self.images_per_second)} images/s by a short trial"
        return f"{size} parameters, {each} an image, {whole} in all; about {duration(self.seconds)} here ({rate})"


def cost_of(chosen: Preset, schema: Schema) -> Cost:
    """The cost of a preset's training on this machine, from a second of forward passes, each counted three times."""
    network = network_of(chosen.network, chosen.recipe)
    counted = weightless(network, schema)
    parameters, each = sum(weight.numel() for weight in counted.parameters()), 3 * gflop_per_image(counted)
    first = chosen.recipe.init  # weights to begin from, which must fit
    denoiser = fresh_denoiser(network, schema, 0, first).to(device()) if first else _with_zeros(counted)
    return Cost(parameters, each, chosen.recipe.images, _rate(denoiser, chosen.recipe))


@dataclass(frozen=True)
class Trial:
    """What a few updates of the real network on real batches took: seconds of one, bytes of the process at most."""

    seconds: float
    memory: int


def try_updates(chosen: Preset, schema: Schema, updates: int = 3) -> Trial:
    """Time so many updates, after one that warms up, on patches of noise; nothing is kept.

    Memory is the largest that this process had, or on a GPU the largest that torch took there.
    """
    network = network_of(chosen.network, chosen.recipe)
    ground = Ground(training=_noise_of(network.shape)) if network.latent_channels else None
    patches = _patches(schema, chosen.network.size, chosen.recipe.batch)
    trainer = Trainer(patches, network, replace(chosen.recipe, shard_model=False), schema, 0, ground)
    _seconds(trainer.step)
    return Trial(min(_seconds(trainer.step) for _ in range(updates)), _largest_memory())


def seconds_of(settings: ClassifierSettings, schema: Schema, size: int, updates: int = 3) -> float:
    """How long the training of a classifier that guides takes here, by so many updates on patches of noise."""
    training = ClassifierTraining(_patches(schema, size, settings.batch), settings, 0)
    work = partial(_updated, training, np.arange(settings.batch))
    _seconds(work)
    return min(_seconds(work) for _ in range(updates)) * settings.images / settings.batch


def _updated(training: ClassifierTraining, counters: Int64[np.ndarray, " n"]) -> Tensor:
    training.update(counters)
    return next(iter(training.average.values()))


def _patches(schema: Schema, size: int, count: int) -> Cohort:
    """Patches of noise, the classes by turns, each attribute at its first level."""
    rows = pd.DataFrame({a.name: [a.levels[0] if a.levels else "0"] * count for a in schema.conditions})
    classes = schema.classes.levels
    rows[schema.classes.name] = [classes[i % len(classes)] for i in range(count)]
    rows = rows.assign(sample_id=[f"trial {i}" for i in range(count)], patient="", slide="")
    pixels = generator("trial").integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return Cohort(rows, schema, Pixels.of(pixels))


def _noise_of(shape: tuple[int, int, int]) -> Views:
    """In place of latents from a store."""
    return lambda rows, turns: generator("trial").standard_normal((len(rows), *shape), dtype=np.float32)


def _largest_memory() -> int:
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@torch.no_grad()
def _with_zeros(denoiser: Denoiser) -> Denoiser:
    """On this machine's device; weights that were never drawn are zero, with which a pass takes as long as with any."""
    drawn = denoiser.device.type != "meta"
    placed = denoiser.to(device()) if drawn else denoiser.to_empty(device=device())
    for weight in () if drawn else (*placed.parameters(), *placed.buffers()):
        weight.zero_()
    return placed


@torch.inference_mode()
def _rate(denoiser: Denoiser, recipe: Recipe) -> float:
    """Images per second of forward and backward passes, which take three times as long as the former alone."""
    kind, shape = denoiser.device.type, denoiser.settings.shape
    n = (recipe.micro_batch or recipe.batch) if kind == "cuda" else min(recipe.micro_batch or recipe.batch, AT_ONCE)
    x, sigma = torch.zeros(n, *shape, device=denoiser.device), torch.ones(n, device=denoiser.device)
    z = torch.zeros(n, denoiser.settings.condition_width, device=denoiser.device)
    with torch.autocast(kind, torch.bfloat16, enabled=in_bf16(recipe.precision)):
        one = _seconds(partial(denoiser, x[:1], sigma[:1], z[:1]))  # libraries choose their kernels
        if one > TRIAL:
            return 1 / (3 * one)
        if kind != "cuda":  # no more at once than the trial has time for
            n = max(1, min(n, int(TRIAL / one)))
        passes, started = 0, time.perf_counter()
        while passes == 0 or time.perf_counter() - started < TRIAL:
            _seconds(partial(denoiser, x[:n], sigma[:n], z[:n]))
            passes += 1
    return n * passes / (3 * (time.perf_counter() - started))


def _seconds(work: Callable[[], Tensor]) -> float:
    """How long it takes, a GPU waited for."""
    started = time.perf_counter()
    work().sum().item()
    return time.perf_counter() - started
