"""Small things to start verbs from, as folders: cohorts of two classes at two sites, and an untrained model."""

from pathlib import Path

import numpy as np
import torch

from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings

CLASSES, SITES = phantom.CLASSES[:2], phantom.SITES[:2]
COMBINATIONS = [(c, s) for c in CLASSES for s in SITES]
HELD = COMBINATIONS[0]
MODEL_SCHEMA = Schema(Attribute("class", levels=("LUAD", "LUSC")), (Attribute("site", levels=("Asterand", "NA", "X")),))


def write_cohorts(folder: Path) -> Path:
    """real: one combination held out; good: the same combinations, half of which fill; flat: grey images."""
    real = phantom.fresh(COMBINATIONS, 60, seed=0, stream="real", patches_per_slide=6)
    held = (real.table["class"] == HELD[0]) & (real.table["site"] == HELD[1])
    odd = real.table["patient"].isin(sorted(set(real.table["patient"]))[::2])
    split = np.where(held, "test_unseen", np.where(odd, "test_seen", "train"))
    real.with_columns(split=split).save(folder / "real")
    good = phantom.fresh(COMBINATIONS, 40, seed=1, stream="good")
    good.with_columns(fill=np.arange(len(good)) % 2 == 0).save(folder / "good")
    flat = phantom.fresh(COMBINATIONS, 40, seed=2, stream="flat")
    noise = np.random.default_rng(0).integers(120, 129, flat.images[:].shape, dtype=np.uint8)
    Cohort(flat.table, flat.schema, Pixels.of(noise)).save(folder / "flat")
    return folder


def write_model(folder: Path) -> None:
    """A model of 8 px with random weights that knows MODEL_SCHEMA."""
    torch.manual_seed(0)
    denoiser = Denoiser(NetworkSettings(size=8, fold=4, channels=(8,), layers=1), MODEL_SCHEMA)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    combinations = {"columns": ["class", "site"], "rows": [["LUAD", "Asterand", 9], ["LUSC", "NA", 3], ["LUSC", "", 1]]}
    config = {"recipe": {"dropout": 0.1}, "images": 16, "info": {"source": "test"}, "combinations": combinations}
    save_model(folder / "model.safetensors", denoiser, Checkpoint.of(denoiser, **config))
