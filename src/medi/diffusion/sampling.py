"""Sampling: solvers are pure functions of (denoise, x, sigmas), schedules stand apart; sample i is sample i (P3)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from medi import seeds
from medi.cohort.pixels import Pixels, to_uint8
from medi.cohort.table import Cohort
from medi.diffusion.checkpoint import load_model
from medi.diffusion.conditioning import as_tensors
from medi.diffusion.denoiser import Denoiser
from medi.errors import MediError
from medi.files import content_hash, read_json, write_atomic, write_json

Denoise = Callable[[Float[Tensor, "n *rest"], float], Float[Tensor, "n *rest"]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SamplerSettings:
    """Solver steps (one evaluation each), the range of noise levels, and the internal batch."""

    steps: int = 16
    sigma_min: float = 0.02
    sigma_max: float = 40.0
    batch: int = 128

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.sigma_min < self.sigma_max:
            raise MediError(f"a sampler needs steps >= 1 and 0 < sigma_min < sigma_max, not {self}")


def uniform_log_sigmas(steps: int, sigma_min: float, sigma_max: float) -> Float[np.ndarray, " steps_and_one"]:
    """`steps` noise levels from sigma_max to sigma_min, uniform in log sigma, and a final 0."""
    return np.append(np.geomspace(sigma_max, sigma_min, steps), 0.0)


def dpm_solver_2m(
    denoise: Denoise, x: Float[Tensor, "n *rest"], sigmas: Float[np.ndarray, " k"]
) -> Float[Tensor, "n *rest"]:
    """DPM-Solver++(2M) of Lu et al. (2022, algorithm 2) for x = image + sigma * noise.

    With lambda = -ln sigma and h the step in it: x' = (sigma'/sigma) x - expm1(-h) D', where D' extrapolates the
    last two denoised images to the middle of the step.
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
        shrink = float(following / sigma)
        x, previous = shrink * x + (1 - shrink) * extrapolated, denoised
    return x


@torch.inference_mode()
def sample_images(
    denoiser: Denoiser, rows: pd.DataFrame, seed: int, settings: SamplerSettings
) -> UInt8[np.ndarray, "n h w 3"]:
    """One image per row of a table with `noise_id` and the columns of the model's schema, n <= settings.batch.

    The batch is padded to its full size, so that an image does not depend on how many stand beside it (P3).
    """
    padded = rows.iloc[np.arange(settings.batch) % len(rows)]
    size = denoiser.settings.size
    noise = torch.from_numpy(seeds.noise(seed, list(padded["noise_id"]), (3, size, size))).to(denoiser.device)
    z = denoiser.conditioning(as_tensors(denoiser.schema.encode(padded), denoiser.device))
    sigmas = uniform_log_sigmas(settings.steps, settings.sigma_min, settings.sigma_max)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return denoiser(x, torch.full((len(x),), sigma, device=x.device), z)

    images = dpm_solver_2m(denoise, noise * settings.sigma_max, sigmas)
    return to_uint8(images[: len(rows)].cpu().numpy())


def generate(
    model: Path,
    rows: pd.DataFrame,
    folder: Path,
    seed: int,
    settings: SamplerSettings,
    progress: Progress = lambda images, total: None,
) -> Cohort:
    """The synthetic cohort of a plan's rows (`Plan.expand`), written to `folder`; goes on after an interruption.

    Rows carry the model's hash in `origin`; levels that the model does not know are refused before the first image.
    """
    denoiser, config = load_model(model)
    if torch.cuda.is_available():
        denoiser = denoiser.to("cuda")
    denoiser.schema.encode(rows)
    info = {"model": config["hash"], "seed": seed, "sampler": "dpm_solver_2m", "steps": settings.steps,
            "sigma_min": settings.sigma_min, "sigma_max": settings.sigma_max}  # fmt: skip
    parts = _parts(folder, info, rows)
    paths = [parts / f"{start:09d}.npy" for start in range(0, len(rows), settings.batch)]
    for i, path in enumerate(paths):
        chunk = rows.iloc[i * settings.batch : (i + 1) * settings.batch]
        if not path.exists():
            images = sample_images(denoiser, chunk, seed, settings)
            write_atomic(path, partial(_save_array, images))
        progress(min((i + 1) * settings.batch, len(rows)), len(rows))
    table = rows.assign(image="", patient="", slide="", split="", origin=config["hash"])
    cohort = Cohort(table, denoiser.schema, Pixels.of(np.concatenate([np.load(path) for path in paths])), info)
    cohort.save(folder)
    _discard(parts)
    return cohort


def _parts(folder: Path, info: dict[str, object], rows: pd.DataFrame) -> Path:
    """The folder of finished batches; batches of another model, plan or setting are discarded."""
    parts, key = folder / "parts", content_hash(info, rows.to_csv(index=False))
    if (parts / "key.json").exists() and read_json(parts / "key.json") != key:
        _discard(parts)
    write_json(parts / "key.json", key)
    return parts


def _discard(parts: Path) -> None:
    for path in parts.iterdir():
        path.unlink()
    parts.rmdir()


def _save_array(array: UInt8[np.ndarray, "n h w 3"], path: Path) -> None:
    with path.open("wb") as handle:
        np.save(handle, array)
