"""Where a model fails to compose: how much of what class and attributes do to D is neither the one nor the other's.

With c the class, s the attributes and 0 a condition that is left out, at noise level sigma:

    energy = |D(c, s) - D(c, 0) - D(0, s) + D(0, 0)|^2 / |D(c, s) - D(0, 0)|^2

0: class and attributes add up, so that a combination that was never seen is the sum of what was. 1 and more: what the
model does for the pair has nothing to do with its parts. This is the interaction contrast of a two-way table.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint
from medi.models.denoiser import Denoiser
from medi.models.level_mix import condition
from medi.sampling.guidance import bare

SIGMAS = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)


@torch.inference_mode()
def interaction(
    denoiser: Denoiser,
    checkpoint: Checkpoint,
    patches: Cohort,
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
    batch: int = 64,
) -> pd.DataFrame:
    """Squared norms of real patches under noise, a row per patch and sigma: `row`, `sigma`, `joint`, `whole`.

    joint, whole: numerator and denominator of the energy of one patch, summed over its pixels; their ratio over many
    patches is the energy of these. MediError where the model has no attribute, or was trained without conditioning
    dropout of the class and of every attribute, and does not know images without them.
    """
    names = [attribute.name for attribute in checkpoint.schema.attributes]
    if not names:
        raise MediError("this model knows the class alone; there is nothing that it could compose")
    if untold := [name for name in ("class", *names) if not checkpoint.drops(name)]:
        raise MediError(
            f"this model was trained without conditioning dropout of {untold[0]} and does not know images without it; "
            "train with dropout (--dropout 0.1)"
        )
    found = []
    for start in range(0, len(patches), batch):
        rows = np.arange(start, min(start + batch, len(patches)))
        part = patches.select(rows)
        images = denoiser.space.encode(part.images[:]).to(denoiser.device)
        for sigma in sigmas:
            noisy = images + sigma * _noise(part, sigma, seed, denoiser.settings.shape).to(images)
            dropped: list[list[str]] = [[], names, ["class"], ["class", *names]]
            estimates = [bare(denoiser, condition(denoiser, part.table, out))(noisy, sigma) for out in dropped]
            joint, whole = energies(*estimates)
            found.append(pd.DataFrame({"row": rows, "sigma": sigma, "joint": joint.cpu(), "whole": whole.cpu()}))
    return pd.concat(found, ignore_index=True)


def _noise(patches: Cohort, sigma: float, seed: int, shape: tuple[int, int, int]) -> Float[Tensor, "n c h w"]:
    """Noise of each patch by its own name, so that it is the same in any batch (P3)."""
    keys = (("interaction", seed, name, f"{sigma:g}") for name in patches.table["sample_id"])
    return torch.from_numpy(np.stack([seeds.generator(*key).standard_normal(shape, np.float32) for key in keys]))


def energies(
    both: Float[Tensor, "n c h w"],
    class_alone: Float[Tensor, "n c h w"],
    attributes_alone: Float[Tensor, "n c h w"],
    neither: Float[Tensor, "n c h w"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Numerator and denominator of the energy of each patch.

    >>> one = torch.ones(1, 3, 2, 2)
    >>> [value.item() for value in energies(3 * one, 2 * one, one, 0 * one)]  # 3 = 2 + 1: they add up
    [0.0, 108.0]
    >>> [value.item() for value in energies(3 * one, 0 * one, 0 * one, 0 * one)]
    [108.0, 108.0]
    """
    joint = both - class_alone - attributes_alone + neither
    return joint.square().sum(dim=(1, 2, 3)), (both - neither).square().sum(dim=(1, 2, 3))
