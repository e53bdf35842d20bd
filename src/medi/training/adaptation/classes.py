"""Patches whose class is not known: how likely each class is, and patches that stand for several."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.models.checkpoint import Checkpoint
from medi.models.denoiser import Denoiser
from medi.models.missing_conditions import condition_known

COPIES = 8  # rows of a patch whose class is uncertain
LEVELS = np.geomspace(0.1, 10.0, 10)  # noise levels at which classes are told apart


def unlabelled(patches: Cohort, schema: Schema) -> int:
    """How many patches have no class."""
    return int((schema.classes.encode(patches.table["class"]) < 0).sum())


@torch.inference_mode()
def class_posteriors(
    denoiser: Denoiser, checkpoint: Checkpoint, patches: Cohort, seed: int, batch: int = 128
) -> Float64[np.ndarray, "n k"]:
    """p(class | patch, its other conditions) under a flat prior, by how well each class denoises it.

    -log p(x | c) is the integral of |x - D(x + sigma noise, sigma, c)|^2 / sigma^2 over ln sigma, up to a constant
    (Kong et al., ICLR 2023, equation 10), on the levels LEVELS with the same noise for all classes. A class that is
    known counts as certain.
    """
    classes = denoiser.schema.classes.levels
    images = denoiser.space.encode(patches.images[:])
    ids = [f"{i} {j}" for i in range(len(patches)) for j in range(len(LEVELS))]
    noise = torch.from_numpy(seeds.noise(seed, ids, tuple(images.shape[1:])))
    sigma = torch.from_numpy(np.tile(LEVELS, len(patches)).astype(np.float32))
    clean = images.repeat_interleave(len(LEVELS), dim=0)
    noisy = clean + sigma[:, None, None, None] * noise
    cost = np.empty((len(patches), len(classes)))
    for k, name in enumerate(classes):
        z = condition_known(denoiser, checkpoint, patches.table.assign(**{"class": name})).repeat_interleave(
            len(LEVELS), dim=0
        )
        parts = [slice(start, start + batch) for start in range(0, len(noisy), batch)]
        made = torch.cat([denoiser(noisy[part], sigma[part], z[part]) for part in parts])
        error = (made - clean).square().sum(dim=(1, 2, 3)) / sigma**2
        cost[:, k] = error.double().reshape(len(patches), -1).mean(dim=1).numpy() * np.log(LEVELS[-1] / LEVELS[0])
    odds = np.exp(cost.min(axis=1, keepdims=True) - cost)
    known = denoiser.schema.classes.encode(patches.table["class"])
    certain = np.eye(len(classes))[np.maximum(known, 0)]
    return np.where(known[:, None] >= 0, certain, odds / odds.sum(axis=1, keepdims=True))


def soft_labels(patches: Cohort, classes: Sequence[str], posteriors: Float64[np.ndarray, "n k"]) -> Cohort:
    """Each patch COPIES times, its classes in proportion to their posteriors (largest remainders); pixels shared."""
    shares = posteriors * COPIES
    whole = np.floor(shares).astype(int)
    for row, share in zip(whole, shares):
        row[np.argsort(row - share, kind="stable")[: COPIES - row.sum()]] += 1
    index = np.repeat(np.arange(len(patches)), COPIES)
    labels = np.concatenate([np.repeat(np.array(classes, dtype=object), row) for row in whole])
    table = patches.table.iloc[index].reset_index(drop=True)
    ids = [f"{name}#{number}" for number, name in enumerate(table["sample_id"])]
    table = table.assign(sample_id=ids)
    table["class"] = labels
    return Cohort(table, patches.schema, patches.images.select(index), patches.info)
