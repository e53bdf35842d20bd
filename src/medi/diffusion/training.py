"""Training: everything counted in images, every draw derived from (seed, image counter), resumable bitwise (P4)."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped
from scipy.special import ndtri
from torch import Tensor, nn

from medi import seeds
from medi.cohort.cells import counts
from medi.cohort.pixels import to_float
from medi.cohort.schema import Codes, Schema
from medi.cohort.table import Cohort
from medi.diffusion.checkpoint import load_tensors, save_model, save_tensors
from medi.diffusion.conditioning import as_tensors
from medi.diffusion.denoiser import Denoiser, NetworkSettings, loss_weight
from medi.diffusion.ema import Ema
from medi.errors import MediError
from medi.files import write_text

Progress = Callable[[int, int], None]
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it fill [0, 1) evenly


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Durations are in images.

    `balance` b draws an image of a combination with n images in proportion to n^(1 - b): 0 as they come, 1 every
    combination alike. ln sigma is normal with `noise_mean` and `noise_std` (EDM, table 1).
    """

    images: int = 56_000
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: int = 1_000
    decay: float = 0.4
    weight_decay: float = 0.01
    clip: float = 1.0
    balance: float = 0.5
    noise_mean: float = -1.0
    noise_std: float = 1.2
    dropout: float = 0.0
    ema_gamma: float = 16.0
    save_every: int = 8_000

    def __post_init__(self) -> None:
        if self.batch < 1 or self.images < self.batch:
            raise MediError(f"training needs at least one batch: images {self.images}, batch {self.batch}")
        if self.save_every % self.batch:
            raise MediError(f"save_every {self.save_every} must be a multiple of the batch, {self.batch}")

    def rate(self, images: int) -> float:
        """Learning rate after so many images: linear warm-up, constant, linear decay over the last `decay` share."""
        left = (self.images - images) / max(self.decay * self.images, 1)
        return self.learning_rate * min(1.0, (images + self.batch) / max(self.warmup, 1), max(left, 0.0))


@dataclass(frozen=True)
class Batch:
    """Clean images in [-1, 1], their codes, noise levels, unit noise and dropped conditions."""

    images: Float[Tensor, "n 3 h w"]
    codes: dict[str, Shaped[Tensor, " n"]]
    sigma: Float[Tensor, " n"]
    noise: Float[Tensor, "n 3 h w"]
    dropped: Bool[Tensor, "n k"]


class Batches:
    """Any images of the endless training sequence: image c depends on (seed, c) alone."""

    def __init__(self, cohort: Cohort, codes: dict[str, Codes], recipe: Recipe, seed: int) -> None:
        self.pixels, self.codes, self.recipe, self.seed = cohort.images, codes, recipe, seed
        self.cumulative = np.cumsum(draw_probabilities(codes, recipe.balance))
        self.offset = seeds.generator("sigma", seed).random()

    def __call__(self, counters: Int64[np.ndarray, " n"], device: torch.device) -> Batch:
        shape = (3, self.pixels.size, self.pixels.size)
        noise = np.empty((len(counters), *shape), dtype=np.float32)
        rows, turns = np.empty(len(counters), dtype=np.int64), np.empty(len(counters), dtype=np.int64)
        dropped = np.empty((len(counters), len(self.codes)), dtype=bool)
        for i, counter in enumerate(counters):
            rng = seeds.generator("train", self.seed, int(counter))
            rows[i] = np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right")
            turns[i] = rng.integers(8)
            dropped[i] = rng.random(len(self.codes)) < self.recipe.dropout
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
        """Log-normal noise levels, stratified: a golden-ratio sequence through the quantiles."""
        quantiles = (self.offset + counters * GOLDEN) % 1.0
        normal = ndtri(np.clip(quantiles, 1e-6, 1 - 1e-6))
        return np.exp(self.recipe.noise_mean + self.recipe.noise_std * normal).astype(np.float32)


def draw_probabilities(codes: dict[str, Codes], balance: float) -> Float64[np.ndarray, " n"]:
    """Each image's share of the draws: a combination of the first two conditions with n images has n^(1 - balance)."""
    columns = np.stack(list(codes.values())[:2], axis=1)
    _, cell, count = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
    weight = count[cell.reshape(-1)].astype(np.float64) ** -balance
    return weight / weight.sum()


def dihedral(images: Float32[np.ndarray, "n c s s"], turns: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n c s s"]:
    """Turn image i by a quarter turns[i] % 4 times and mirror it where turns[i] >= 4: tissue has no upright."""
    turned = [np.rot90(image, k % 4, axes=(1, 2)) for image, k in zip(images, turns)]
    return np.stack([image[:, :, ::-1] if k >= 4 else image for image, k in zip(turned, turns)])


class DenoisingLoss(nn.Module):
    """lambda(sigma) |D(image + sigma noise, sigma, z) - image|^2, averaged (EDM, equation 8)."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        z = self.denoiser.conditioning(batch.codes, batch.dropped)
        noisy = batch.images + batch.sigma[:, None, None, None] * batch.noise
        error = (self.denoiser(noisy, batch.sigma, z) - batch.images).square().mean(dim=(1, 2, 3))
        return (loss_weight(batch.sigma) * error).mean()


class Trainer:
    """One model in training: weights, optimiser, EMA and the number of images seen.

    With N processes each works on every N-th image of a batch and gradients are averaged, so that N equal one (P4).
    """

    def __init__(self, cohort: Cohort, settings: NetworkSettings, recipe: Recipe, schema: Schema, seed: int) -> None:
        from accelerate import Accelerator

        torch.manual_seed(seeds.integer("weights", seed))
        self.accelerator = Accelerator()
        self.recipe, self.images = recipe, 0
        self.denoiser = Denoiser(settings, schema)
        optimizer = torch.optim.AdamW(
            self.denoiser.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.loss, self.optimizer = self.accelerator.prepare(DenoisingLoss(self.denoiser), optimizer)
        self.weights = list(self.denoiser.parameters())
        self.ema = Ema(self.denoiser, recipe.ema_gamma)
        self.batches = Batches(cohort, cohort.schema.encode(cohort.table), recipe, seed)

    def step(self) -> Float[Tensor, ""]:
        """One update on the next batch; returns its loss, still on the device."""
        stop = min(self.images + self.recipe.batch, self.recipe.images)
        counters = np.arange(self.images, stop)[self.accelerator.process_index :: self.accelerator.num_processes]
        loss = self.loss(self.batches(counters, self.accelerator.device))
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.weights, self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.images)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.images, stop)
        self.images = stop
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        moments = self.optimizer.state_dict()["state"]
        flat = {f"optimizer.{i}.{key}": value for i, entry in moments.items() for key, value in entry.items()}
        weights = {f"weights.{name}": value for name, value in self.denoiser.state_dict().items()}
        return weights | flat | {f"ema.{name}": value for name, value in self.ema.average.items()}

    def load(self, state: dict[str, Tensor], images: int) -> None:
        self.denoiser.load_state_dict(_under(state, "weights."))
        self.ema.load(_under(state, "ema."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(state, "optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        for i, parameter in enumerate(self.denoiser.parameters()):
            for key in ("exp_avg", "exp_avg_sq"):  # fused AdamW wants the parameter's memory layout
                moments[i][key] = torch.empty_like(parameter, requires_grad=False).copy_(moments[i][key])
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.images = images

    @torch.inference_mode()
    def validation_loss(self, cohort: Cohort, batch: int = 64) -> float:
        """The averaged weights' loss on a cohort, with noise that is the same at every call."""
        averaged = Denoiser(self.denoiser.settings, self.denoiser.schema).to(self.accelerator.device)
        self.ema.copy_to(averaged)
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

    Writes folder/model.safetensors (averaged weights, with vocabularies and recipe in its header), log.jsonl, and
    state.safetensors while in training. The same call goes on where an interrupted one stopped; other settings or
    data are refused. `progress(images, total)` is called after every update.
    """
    if cohort.images.size != settings.size:
        raise MediError(
            f"patches have {cohort.images.size} px, the network wants {settings.size}; pack them to that size"
        )
    config = {"recipe": asdict(recipe), "seed": seed, "data": cohort.digest(), "info": cohort.info}
    config["combinations"] = counts(cohort.table, cohort.schema)
    trainer = Trainer(cohort, settings, recipe, schema, seed)
    log = _resume(trainer, folder / "state.safetensors", config)
    started, pending, since = time.perf_counter(), torch.zeros((), device=trainer.denoiser.device), trainer.images
    while trainer.images < recipe.images:
        before = trainer.images
        pending = pending + trainer.step() * (trainer.images - before)
        progress(trainer.images, recipe.images)
        if trainer.images % recipe.save_every and trainer.images < recipe.images:
            continue
        seconds, images = time.perf_counter() - started, trainer.images - since
        log.append(_log_row(trainer, float(pending) / images, images / seconds, validation))
        _save(trainer, folder, config, log)
        started, pending, since = time.perf_counter(), torch.zeros_like(pending), trainer.images
    trainer.ema.copy_to(trainer.denoiser)
    save_model(folder / "model.safetensors", trainer.denoiser, config | {"images": trainer.images})
    (folder / "state.safetensors").unlink(missing_ok=True)
    return folder / "model.safetensors"


def _log_row(trainer: Trainer, loss: float, rate: float, validation: Cohort | None) -> dict[str, Any]:
    if not math.isfinite(loss):
        raise MediError(
            f"the loss is {loss} after {trainer.images:,} images; the last good state is kept: lower the learning rate"
        )
    row = {"images": trainer.images, "loss": loss, "images_per_second": rate}
    return row | {"validation_loss": trainer.validation_loss(validation) if validation and len(validation) else None}


def _save(trainer: Trainer, folder: Path, config: dict[str, Any], log: list[dict[str, Any]]) -> None:
    if trainer.accelerator.is_main_process:
        save_tensors(folder / "state.safetensors", trainer.state(), config | {"images": trainer.images, "log": log})
        write_text(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in log))


def _resume(trainer: Trainer, path: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Bring the trainer to the saved state, if there is one of these very settings; returns the log so far."""
    if not path.exists():
        return []
    state, saved = load_tensors(path)
    expected = json.loads(json.dumps(config))
    if changed := [key for key in expected if saved.get(key) != expected[key]]:
        raise MediError(f"{path}: was trained with another {', '.join(changed)}; use a new folder or the old settings")
    trainer.load(state, saved["images"])
    return saved["log"]


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
