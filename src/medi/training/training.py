"""Training: everything counted in images, every draw derived from (seed, image counter), resumable bitwise (P4)."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped, UInt8
from PIL import Image
from scipy.special import ndtri
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from medi.cohort.combinations import counts
from medi.cohort.pixels import to_float
from medi.cohort.schema import Codes, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import write_atomic, write_text
from medi.core.memory import keep_freed_memory
from medi.models.checkpoint import load_tensors, save_model, save_tensors
from medi.models.conditioning import Dropout, as_tensors, dropout_rates
from medi.models.denoiser import (
    DDPM_STEPS,
    Denoiser,
    NetworkSettings,
    Precision,
    compile_failed,
    ddpm_sigmas,
    gflop_per_image,
    in_bf16,
)
from medi.models.ema import Ema
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.training.cuda_graph import Recorded
from medi.training.muon import Muon
from medi.training.prefetch import Ahead, Counters

SHEET = 8  # classes and levels on a sheet of samples
GPU_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}  # dense bf16, by name
Progress = Callable[[int, int], None]
Over = Literal["combination", "class", "nested"]
QUARTERS = (  # turns of [c, s, s]; numpy's rot90 is as slow as the noise
    lambda image: image,
    lambda image: image[:, :, ::-1].swapaxes(1, 2),
    lambda image: image[:, ::-1, ::-1],
    lambda image: image.swapaxes(1, 2)[:, :, ::-1],
)
BATCH_TENSORS = ("images", "sigma", "noise", "dropped")
LOADER_THREADS = 8  # at most, for each GPU
EARLY = "early.safetensors"
ATTENTION = [  # all but cuDNN's, whose backward pass can give NaN on an H100, also for 64 tokens (pytorch issue 196678)
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
COLLAPSE, COLLAPSE_IMAGES = 1.5, 1_000  # growth of the mean loss over so many images that ends a training
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it fill [0, 1) evenly


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
    ema_gamma: length of the averaging memory; 1e9 is no average. micro_batch: images at once, 0 for the whole batch;
    a batch in parts needs less memory and gives the same update. compile: torch.compile, which needs a C++ compiler
    on a CPU. precision: of convolutions and matrix products; weights and averages are fp32 always. auto is bf16 on a
    GPU and on a CPU with units for it, else fp32. Every `save_every` images: keep, how many averages stay in
    snapshots/; sheets, whether a grid of samples is drawn; tensorboard, whether the log goes there too. early: the
    average after so many images stays in early.safetensors, the weaker model of autoguidance; 0 is none.
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
    early: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.images < self.batch:
            raise MediError(f"training needs at least one batch: images {self.images}, batch {self.batch}")
        if self.save_every % self.batch:
            raise MediError(f"save_every {self.save_every} must be a multiple of the batch, {self.batch}")
        if self.early % self.save_every or not 0 <= self.early < self.images:
            raise MediError(
                f"early must be a multiple of save_every, {self.save_every}, and less than images, {self.images}, "
                f"not {self.early}"
            )
        rates = self.dropout.values() if isinstance(self.dropout, dict) else [self.dropout]
        if not all(0 <= rate <= 1 for rate in rates):
            raise MediError(f"dropout is a share of draws, 0 to 1, not {self.dropout}")

    def rate(self, images: int) -> float:
        """Learning rate after so many images: linear warm-up, then the schedule."""
        horizon, rising = self.horizon or self.images, (images + self.batch) / max(self.warmup, 1)
        if self.schedule == "cosine":
            passed = min(max(images - self.warmup, 0) / max(horizon - self.warmup, 1), 1.0)
            return self.learning_rate * min(1.0, rising) * (1 + math.cos(math.pi * passed)) / 2
        left = (horizon - images) / max(self.decay * horizon, 1)
        return self.learning_rate * min(1.0, rising, max(left, 0.0))


@dataclass(frozen=True)
class Batch:
    """Clean images in [-1, 1], their codes, noise levels, unit noise and dropped conditions, k in the codes' order."""

    images: Float[Tensor, "n 3 h w"]
    codes: dict[str, Shaped[Tensor, " n"]]
    sigma: Float[Tensor, " n"]
    noise: Float[Tensor, "n 3 h w"]
    dropped: Bool[Tensor, "n k"]

    @classmethod
    def join(cls, parts: "Sequence[Batch]") -> "Batch":
        """The images of all parts in order."""
        codes = {name: torch.cat([part.codes[name] for part in parts]) for name in parts[0].codes}
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in BATCH_TENSORS}
        return cls(codes=codes, **joined)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a GPU, copied from pinned memory, so that neither waits for the other."""
        codes = {name: _sent(column, device) for name, column in self.codes.items()}
        return Batch(codes=codes, **{name: _sent(getattr(self, name), device) for name in BATCH_TENSORS})

    def copy_(self, other: "Batch") -> None:
        """Take the numbers of another batch of this size, whose tensors may lie on the CPU."""
        for name, column in self.codes.items():
            column.copy_(other.codes[name].pin_memory(), non_blocking=True)
        for name in BATCH_TENSORS:
            getattr(self, name).copy_(getattr(other, name).pin_memory(), non_blocking=True)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


class Batches:
    """Any images of the endless training sequence: image c depends on (seed, c) alone."""

    def __init__(self, cohort: Cohort, codes: dict[str, Codes], recipe: Recipe, seed: int) -> None:
        self.pixels, self.codes, self.recipe, self.seed = cohort.images, codes, recipe, seed
        self.cumulative = np.cumsum(draw_probabilities(codes, recipe.balance, recipe.balance_over))
        self.dropout = dropout_rates(recipe.dropout, codes)
        self.offset = seeds.generator("sigma", seed).random()

    def __call__(self, counters: Int64[np.ndarray, " n"], device: torch.device) -> Batch:
        shape = (3, self.pixels.size, self.pixels.size)
        noise = np.empty((len(counters), *shape), dtype=np.float32)
        rows, turns = np.empty(len(counters), dtype=np.int64), np.empty(len(counters), dtype=np.int64)
        dropped = np.empty((len(counters), len(self.codes)), dtype=bool)
        for i, counter in enumerate(counters):
            rng = seeds.generator("train", self.seed, int(counter))
            rows[i] = np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right")
            turns[i] = rng.integers(8) * self.recipe.dihedral
            dropped[i] = rng.random(len(self.codes)) < self.dropout
            rng.standard_normal(out=noise[i], dtype=np.float32)
        images = dihedral(to_float(self.pixels[rows]), turns)
        return Batch(
            torch.from_numpy(images).to(device),
            as_tensors({name: column[rows] for name, column in self.codes.items()}, device),
            torch.from_numpy(self.sigmas(counters)).to(device),
            torch.from_numpy(noise).to(device),
            torch.from_numpy(dropped).to(device),
        )

    def sigmas(self, counters: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """Noise levels, stratified: a golden-ratio sequence through the quantiles."""
        quantiles = (self.offset + counters * GOLDEN) % 1.0
        if self.recipe.noise == "ddpm":
            return ddpm_sigmas().numpy()[(quantiles * DDPM_STEPS).astype(np.int64)]
        normal = ndtri(np.clip(quantiles, 1e-6, 1 - 1e-6))
        return np.exp(self.recipe.noise_mean + self.recipe.noise_std * normal).astype(np.float32)


def draw_probabilities(
    codes: dict[str, Codes], balance: float, over: Over = "combination"
) -> Float64[np.ndarray, " n"]:
    """Each image's share of the draws: a group of n images has n^(1 - balance); see Recipe for the groups."""
    class_, first, *_ = [*codes.values(), np.zeros(0)]
    by_class, by_combination = _groups(class_), _groups(class_, first) if len(codes) > 1 else _groups(class_)
    if over == "nested":
        share = np.bincount(by_class) ** (1.0 - balance)
        weight = np.bincount(by_combination)[by_combination] ** -balance
        weight *= (share / np.bincount(by_class, weight))[by_class]
    else:
        group = by_class if over == "class" else by_combination
        weight = np.bincount(group)[group] ** -balance
    return weight / weight.sum()


def _groups(*columns: Codes) -> Int64[np.ndarray, " n"]:
    """The number of each row's group: rows alike in all columns."""
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def dihedral(images: Float32[np.ndarray, "n c s s"], turns: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n c s s"]:
    """Turn image i by a quarter turns[i] % 4 times and mirror it where turns[i] >= 4: tissue has no upright."""
    views = np.empty_like(images)
    for view, image, k in zip(views, images, turns):
        turned = QUARTERS[k % 4](image)
        view[:] = turned[:, :, ::-1] if k >= 4 else turned
    return views


def utilisation(gflop_per_second: float, processes: int = 1) -> float | None:
    """Share of the GPUs' dense bf16 rate in use; None on a CPU or a GPU whose rate is not known."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    peak = next((rate for part, rate in GPU_TFLOPS.items() if part in name), None)
    return None if peak is None else gflop_per_second / (1e3 * peak * processes)


class DenoisingLoss(nn.Module):
    """lambda(sigma) |D(image + sigma noise, sigma, z) - image|^2, averaged (EDM, equation 8)."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        places = [list(batch.codes).index(condition.name) for condition in self.denoiser.schema.conditions]
        dropped = torch.stack([batch.dropped[:, i] for i in places], dim=1)  # no index from the CPU: see Recorded
        z = self.denoiser.conditioning(batch.codes, dropped)
        noisy = batch.images + batch.sigma[:, None, None, None] * batch.noise
        error = (self.denoiser(noisy, batch.sigma, z) - batch.images).square().mean(dim=(1, 2, 3))
        return (self.denoiser.loss_weight(batch.sigma) * error).mean()


def optimizers(denoiser: Denoiser, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; or Muon for convolutions and attention between the network's ends, AdamW for the others,
    among them those that time and conditions pass through."""
    others: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    for name, weight in denoiser.named_parameters():
        outer = not name.startswith("network.") or any(part in name for part in ("conv_in.", "conv_out.", "time_emb"))
        (others if recipe.optimizer == "adamw" or outer or weight.ndim < 2 else matrices).append(weight)
    rate, decay = recipe.learning_rate, recipe.weight_decay
    adamw = torch.optim.AdamW(others, rate, betas=recipe.betas, weight_decay=decay, fused=True)
    return [adamw, Muon(matrices, rate, decay)] if matrices else [adamw]


class Trainer:
    """One model in training: weights, optimisers, EMA and the number of images seen.

    With N processes each works on every N-th image of a batch and gradients are averaged, so that N equal one (P4).
    """

    def __init__(self, cohort: Cohort, settings: NetworkSettings, recipe: Recipe, schema: Schema, seed: int) -> None:
        from accelerate import Accelerator

        keep_freed_memory()
        torch.manual_seed(seeds.integer("weights", seed))
        self.accelerator = Accelerator(mixed_precision="no")  # its precision is the process's, ours is the recipe's
        self.recipe, self.images = recipe, 0
        self.denoiser = Denoiser(settings, schema)
        loss = torch.compile(DenoisingLoss(self.denoiser)) if recipe.compile else DenoisingLoss(self.denoiser)
        self.loss, *self.optimizers = self.accelerator.prepare(loss, *optimizers(self.denoiser, recipe))
        self.weights = list(self.denoiser.parameters())
        self.ema = Ema(self.denoiser, recipe.ema_gamma)
        self.batches = Batches(cohort, cohort.schema.encode(cohort.table), recipe, seed)
        self.ahead: Ahead[Batch] | None = None
        self.recorded: Recorded[Batch] | None = None
        if self.accelerator.device.type == "cuda":  # on a CPU no core is to spare
            threads = min(LOADER_THREADS, max(1, (os.cpu_count() or 1) // self.accelerator.num_processes))
            self.ahead = Ahead(partial(self.batches, device=torch.device("cpu")), Batch.join, threads)

    def step(self) -> Float[Tensor, ""]:
        """One update on the next batch; returns its loss, still on the device."""
        stop = min(self.images + self.recipe.batch, self.recipe.images)
        parts = self._parts(self.images)
        following = [*parts, *self._parts(stop)[:1], np.arange(0)][1 : len(parts) + 1]
        if self.is_recordable and len(parts[0]) == self.recipe.batch:
            loss = self._replayed(parts[0], following[0])
        else:
            loss = self._passes(parts, following)
        self._clip()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.images)
            optimizer.step()
            optimizer.zero_grad()
        self.ema.update(self.images, stop)
        self.images = stop
        return loss

    def _passes(self, parts: list[Counters], following: list[Counters]) -> Float[Tensor, ""]:
        """The loss of all parts together, its gradient left at the weights."""
        loss = torch.zeros((), device=self.accelerator.device)
        for part, after in zip(parts, following):
            share = self.loss_of(self._batch(part, after)) * (len(part) / sum(map(len, parts)))
            self.accelerator.backward(share)
            loss += share.detach()
        return loss

    @property
    def is_recordable(self) -> bool:
        """Whether an update is one forward and backward pass on one GPU."""
        on_gpu, whole = self.ahead is not None, self.recipe.micro_batch in (0, self.recipe.batch)
        return on_gpu and whole and self.accelerator.num_processes == 1

    def _replayed(self, counters: Counters, following: Counters) -> Float[Tensor, ""]:
        """The same as `_passes` of one whole batch, as a CUDA graph."""
        assert self.ahead is not None
        batch = self.ahead(counters, following)
        if self.recorded is None:

            def passes(held: Batch) -> Float[Tensor, ""]:
                loss = self.loss_of(held)
                self.accelerator.backward(loss)
                return loss.detach()

            self.recorded = Recorded(passes, batch.to(self.accelerator.device), self.weights)
        return self.recorded(batch)

    def _clip(self) -> None:
        """Shorten the gradient to `recipe.clip`. A CPU sees for itself whether there is anything to do; a GPU would
        have to be waited for."""
        if self.accelerator.device.type != "cpu":
            self.accelerator.clip_grad_norm_(self.weights, self.recipe.clip)
            return
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(gradients))))
        if norm + 1e-6 > self.recipe.clip:
            nn.utils.clip_grads_with_norm_(self.weights, self.recipe.clip, norm)

    def loss_of(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss in the recipe's precision."""
        bf16 = in_bf16(self.recipe.precision)
        with sdpa_kernel(ATTENTION), torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=bf16):
            return self.loss(batch)

    def _parts(self, images: int) -> list[Counters]:
        """The images of the update that begins at `images`, those of this process, as many as are taken at once."""
        stop = min(images + self.recipe.batch, self.recipe.images)
        counters = np.arange(images, stop)[self.accelerator.process_index :: self.accelerator.num_processes]
        size = self.recipe.micro_batch or self.recipe.batch
        return [counters[start : start + size] for start in range(0, len(counters), size)]

    def _batch(self, counters: Counters, following: Counters) -> Batch:
        device = self.accelerator.device
        return self.batches(counters, device) if self.ahead is None else self.ahead(counters, following).to(device)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        moments = {weight: entry for optimizer in self.optimizers for weight, entry in optimizer.state.items()}
        flat = {
            f"optimizer.{i}.{key}": value
            for i, weight in enumerate(self.weights)
            for key, value in moments.get(weight, {}).items()
        }
        weights = {f"weights.{name}": value for name, value in self.denoiser.state_dict().items()}
        return weights | flat | {f"ema.{name}": value for name, value in self.ema.average.items()}

    def load(self, state: dict[str, Tensor], images: int) -> None:
        self.denoiser.load_state_dict(_under(state, "weights."))
        self.ema.load(_under(state, "ema."))
        moments = _under(state, "optimizer.")
        at = {weight: i for i, weight in enumerate(self.weights)}
        for optimizer in self.optimizers:
            for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
                for key, value in _under(moments, f"{at[weight]}.").items():  # in the weight's memory layout
                    kept = torch.empty_like(weight, requires_grad=False) if value.ndim else torch.empty_like(value)
                    optimizer.state[weight][key] = kept.to(weight.device).copy_(value)
        self.images = images

    def averaged(self) -> Denoiser:
        """A denoiser with the averaged weights, on this process's device."""
        made = Denoiser(self.denoiser.settings, self.denoiser.schema).to(self.accelerator.device)
        self.ema.copy_to(made)
        return made

    def is_finite(self) -> bool:
        """Whether every weight and its average is a finite number."""
        sums = [value.detach().float().sum() for value in (*self.weights, *self.ema.average.values())]
        return bool(torch.stack(sums).isfinite().all())

    def gflop_per_image(self) -> float:
        """10^9 floating-point operations of one image's forward and backward pass, the latter counted as two."""
        return 3 * gflop_per_image(self.denoiser)

    @torch.inference_mode()
    def validation_loss(self, cohort: Cohort, batch: int = 64) -> float:
        """The averaged weights' loss on a cohort, with noise that is the same at every call."""
        averaged = self.averaged()
        loss = DenoisingLoss(averaged)
        batches = Batches(cohort, cohort.schema.encode(cohort.table), self.recipe, seeds.integer("validation"))
        starts = range(0, len(cohort), batch)
        values = [loss(batches(np.arange(s, min(s + batch, len(cohort))), averaged.device)).item() for s in starts]
        return float(np.mean(values))


def train(
    cohort: Cohort,
    folder: Path,
    settings: NetworkSettings,
    recipe: Recipe,
    schema: Schema,
    seed: int,
    validation: Cohort | None = None,
    progress: Progress = lambda images, total: None,
) -> Path:
    """Train a denoiser conditioned on `schema` (the class alone: `cohort.schema.restrict([])`) on all of `cohort`.

    Writes folder/model.safetensors (averaged weights, with vocabularies and recipe in its header), log.jsonl,
    state.safetensors while in training, the last `recipe.keep` averages in snapshots/ and that of `recipe.early`
    images in early.safetensors. The same call goes on where an interrupted one stopped, and does nothing where it
    ended; other settings or data are refused. `progress(images, total)` is called after every update.
    """
    check_size(cohort, settings)
    for name in recipe.dropout if isinstance(recipe.dropout, dict) else ():
        cohort.schema.attribute(name)  # refuses what is none, also for CLS, which is trained by the same recipe
    if recipe.tensorboard and find_spec("tensorboard") is None:
        raise MediError("TensorBoard is not installed: pip install 'medi-histo[track]', or leave it out")
    config = {"recipe": asdict(recipe), "seed": seed, "data": cohort.digest(), "info": cohort.info}
    config["network"], config["conditions"] = asdict(settings), {a.name: a.levels for a in schema.conditions}
    config["combinations"] = counts(cohort.table, cohort.schema)
    model, state = folder / "model.safetensors", folder / "state.safetensors"
    if model.exists():
        _check_same(model, load_tensors(model)[1], config)
        return model
    trainer = Trainer(cohort, settings, recipe, schema, seed)
    log = _resume(trainer, state, config)
    gflop = trainer.gflop_per_image()
    started, pending, since = time.perf_counter(), torch.zeros((), device=trainer.denoiser.device), trainer.images
    while trainer.images < recipe.images:
        before = trainer.images
        pending = pending + _step(trainer) * (trainer.images - before)
        progress(trainer.images, recipe.images)
        if trainer.images % recipe.save_every and trainer.images < recipe.images:
            continue
        seconds, images = time.perf_counter() - started, trainer.images - since
        row = _log_row(trainer, float(pending) / images, images / seconds, gflop, validation)
        _check_collapse([*log, row], images)
        log.append(row)
        _keep_snapshot(trainer, folder, config)  # first: a resumed training does not come by here again
        _save(trainer, folder, config, log)
        _show(trainer, folder, log[-1], seed)
        started, pending, since = time.perf_counter(), torch.zeros_like(pending), trainer.images
    trainer.ema.copy_to(trainer.denoiser)
    save_model(model, trainer.denoiser, config | {"images": trainer.images, "mpp": cohort.mpp})
    state.unlink(missing_ok=True)
    return model


def check_size(cohort: Cohort, settings: NetworkSettings) -> None:
    """Refuse patches of another size than the network's."""
    if cohort.images.size != settings.size:
        raise MediError(
            f"patches have {cohort.images.size} px, the network wants {settings.size}; pack them to that size"
        )


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a model folder's log.jsonl: images, loss, images_per_second, gflop_per_image, validation_loss, ..."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def _step(trainer: Trainer) -> Float[Tensor, ""]:
    try:
        return trainer.step()
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a plain RuntimeError on a CPU
        recipe = trainer.recipe
        is_full = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not is_full and recipe.compile:
            raise compile_failed(error) from error
        if not is_full:
            raise
        raise MediError(
            f"{recipe.micro_batch or recipe.batch} images at once do not fit into memory; lower training.micro_batch "
            "(the update stays the same) and run again"
        ) from error


def _log_row(trainer: Trainer, loss: float, rate: float, gflop: float, validation: Cohort | None) -> dict[str, Any]:
    what = "loss is" if not math.isfinite(loss) else "weights are" if not trainer.is_finite() else ""
    if what:
        shown = loss if what == "loss is" else "not finite"
        raise MediError(
            f"the {what} {shown} after {trainer.images:,} images; the last good state is kept: lower the learning rate"
        )
    row: dict[str, Any] = {"images": trainer.images, "loss": loss, "images_per_second": rate, "gflop_per_image": gflop}
    row["utilisation"] = utilisation(rate * gflop, trainer.accelerator.num_processes)
    return row | {"validation_loss": trainer.validation_loss(validation) if validation and len(validation) else None}


def _check_collapse(log: list[dict[str, Any]], images: int) -> None:
    """Refuse a loss, the mean over so many images, that has left its course: it does not come back by itself."""
    for name in ("loss", "validation_loss"):
        losses = [row[name] for row in log if row[name] is not None]
        if losses and images >= COLLAPSE_IMAGES and losses[-1] > COLLAPSE * min(losses):
            raise MediError(
                f"training has collapsed: the {name.replace('_', ' ')} was {min(losses):.3g} and is {losses[-1]:.3g} "
                f"after {log[-1]['images']:,} images; the last good state is kept: train in a new folder at a lower "
                "learning rate"
            )


def _save(trainer: Trainer, folder: Path, config: dict[str, Any], log: list[dict[str, Any]]) -> None:
    if trainer.accelerator.is_main_process:
        save_tensors(folder / "state.safetensors", trainer.state(), config | {"images": trainer.images, "log": log})
        write_text(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in log))


def _keep_snapshot(trainer: Trainer, folder: Path, config: dict[str, Any]) -> None:
    """The averaged weights as they are now, as a model of its own, where the recipe wants them: early, and the last
    `recipe.keep`."""
    early = trainer.images == trainer.recipe.early
    if not ((trainer.recipe.keep or early) and trainer.accelerator.is_main_process):
        return
    averaged, described = trainer.averaged(), config | {"images": trainer.images}
    if early:
        save_model(folder / EARLY, averaged, described)
    if trainer.recipe.keep:
        snapshots = folder / "snapshots"
        save_model(snapshots / f"{trainer.images:012d}.safetensors", averaged, described)
        for path in sorted(snapshots.glob("*.safetensors"))[: -trainer.recipe.keep]:
            path.unlink()


def _show(trainer: Trainer, folder: Path, row: dict[str, Any], seed: int) -> None:
    """What a person watches while it trains: a sheet of samples, TensorBoard."""
    if not trainer.accelerator.is_main_process:
        return
    if trainer.recipe.sheets:
        image = Image.fromarray(sheet(trainer.averaged(), seed))
        write_atomic(folder / "sheets" / f"{trainer.images:012d}.png", lambda path: image.save(path, "PNG"))
    if trainer.recipe.tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(folder / "tensorboard") as writer:
            for name, value in row.items():
                if value is not None and name != "images":
                    writer.add_scalar(name, value, trainer.images)


def sheet(denoiser: Denoiser, seed: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """A grid of samples: a row per class, a column per level of the first attribute, at most SHEET of each.

    The same noise at every call, so that sheets of one training show one image growing.
    """
    classes, *attributes = denoiser.schema.conditions
    named = next((a for a in attributes if a.kind == "categorical"), None)
    across = named.levels[:SHEET] if named else tuple(map(str, range(SHEET)))
    rows = pd.DataFrame([(c, level) for c in classes.levels[:SHEET] for level in across], columns=["class", "across"])
    rows["noise_id"] = rows["class"] + " " + rows["across"]
    rows = rows.assign(**{a.name: rows["across"] if a is named else "" for a in attributes})
    images = sample_images(denoiser.eval(), rows, seed, SamplerSettings(batch=len(rows)))
    size = images.shape[1]
    grid = images.reshape(-1, len(across), size, size, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, len(across) * size, 3)


def _resume(trainer: Trainer, path: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Bring the trainer to the saved state, if there is one of these very settings; returns the log so far."""
    if not path.exists():
        return []
    state, saved = load_tensors(path)
    _check_same(path, saved, config)
    trainer.load(state, saved["images"])
    return saved["log"]


def _check_same(path: Path, saved: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse what was trained otherwise; what an older file does not say is taken for the same, or for the default of a
    setting that is newer than the file."""
    expected = json.loads(json.dumps(config))
    defaults = json.loads(json.dumps({"recipe": asdict(Recipe()), "network": asdict(NetworkSettings())}))
    known = {key: defaults[key] | saved[key] if key in defaults else saved[key] for key in expected if key in saved}
    if changed := [line for key, value in known.items() for line in _differences(key, value, expected[key])]:
        raise MediError(f"{path}: was trained with another {', '.join(changed)}; use a new folder or the old settings")


def _differences(name: str, old: Any, new: Any) -> list[str]:
    """What differs between two plain values, entry by entry: "recipe.batch (8, now 16)"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in _differences(f"{name}.{key}", old.get(key), new.get(key))]
    return [] if old == new else [f"{name} ({old}, now {new})"]


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
