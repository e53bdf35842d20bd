"""Latents of a frozen autoencoder against folded pixels, on phantom tissue of 256 px, at equal time of training.

python benchmarks/latents.py --out OUT [--autoencoder KIND:FOLDER] [--seconds 1200] [--quick]

Each network has the same widths and trains for the same seconds, with the optimizer and the preconditioning of the
presets for laptops; noise levels of pixels are those of 32 px times the size. The latents are encoded before, and how
long that takes is a figure of its own. Of each model: the AUROC of a logistic probe (colour-texture, five folds) that
tells its images from fresh real patches, the mean Frechet distance per combination minus the floor, and images a second
in sampling, decoded. The autoencoder's round trip stands beside them. Without --autoencoder there are folded pixels
alone. The last line is one JSON object.
"""

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medi
from common import figure, report
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.models.autoencoder import Autoencoder, through
from medi.models.network import NetworkSettings
from medi.training.latents import prepared
from medi.training.presets import Preset
from medi.training.recipe import Recipe
from medi.training.trainer import Trainer

COMBINATIONS = [(name, site) for name in ("acinar", "spindle") for site in ("Alder", "Cedar")]
FOLDS = (4, 8)
LATENT_NOISE = -0.4  # mean of ln sigma in training on latents
WARM, TIMED = 2, 4  # updates before the rate is known


@dataclass(frozen=True)
class Size:
    """What one run takes: pixels, patches a combination for training, for reference and sampled, steps of sampling."""

    pixels: int = 256
    training: int = 200
    compared: int = 80
    steps: int = 16
    channels: tuple[int, ...] = (64, 128, 128)
    batch: int = 16


QUICK = Size(32, 8, 40, 1, (8, 8), 8)


def fresh(size: Size, count: int, seed: int, name: str) -> Cohort:
    made = phantom.fresh(COMBINATIONS, count, seed, name, size=size.pixels, patches_per_slide=5)
    return replace(made, schema=made.schema.restrict(["site"]))


def images_in(cohort: Cohort, chosen: Preset, folder: Path, seconds: float) -> int:
    """How many training images this takes so many seconds for, from a few updates."""
    ground = prepared(cohort, None, chosen.recipe, folder)
    trainer = Trainer(cohort, ground.network(chosen.network), chosen.recipe, cohort.schema, 0, ground)
    for _ in range(WARM):
        trainer.step().item()
    started = time.perf_counter()
    for _ in range(TIMED):
        trainer.step().item()
    rate = TIMED / (time.perf_counter() - started)
    return max(int(rate * seconds), 1) * chosen.recipe.batch


def auroc(real: Cohort, other: Cohort) -> float:
    """Of a logistic probe that tells these patches from real ones, on folds that it was not fitted to."""
    features = np.concatenate([medi.embed(real).features, medi.embed(other).features])
    labels = np.repeat([0, 1], [len(real), len(other)])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2_000))
    return float(roc_auc_score(labels, cross_val_predict(probe, features, labels, cv=5, method="decision_function")))


def distance(real: Cohort, other: Cohort, n: int) -> float:
    """The mean Frechet distance per combination, less that of the real-vs-real floor."""
    table = medi.fidelity(real, other=replace(other, info={}), over=("class", "site"), n=n, draws=0).tables["fidelity"]
    rows = table[(table["metric"] == "frechet") & (table["scope"] == "combination_mean")].set_index("arm")["value"]
    return float(rows["other"] - rows["floor"])


def plan_of(real: Cohort, count: int) -> pd.DataFrame:
    rows = real.table.groupby(["class", "site"]).head(count).reset_index(drop=True)
    return rows.assign(sample_id="made " + rows["sample_id"], noise_id=rows["sample_id"])


def measured(name: str, chosen: Preset, cohort: Cohort, real: Cohort, size: Size, out: Path, seconds: float) -> dict:
    """Train, sample and measure one way."""
    folder, started = out / name, time.perf_counter()
    prepared(cohort, None, chosen.recipe, folder)
    encoding = time.perf_counter() - started
    images = images_in(cohort, chosen, folder, seconds)
    recipe = chosen.recipe.changed(images=images, save_every=images)
    model = medi.train(cohort, replace(chosen, recipe=recipe), folder, 0)
    plan, started = plan_of(real, size.compared), time.perf_counter()
    made = model.sample(plan, folder / "samples", steps=size.steps, sigma_max=80.0, batch=8, workers=1)
    rate = len(made) / (time.perf_counter() - started)
    auc, gap = auroc(real, made), distance(real, made, size.compared // 2)
    return {
        f"{name}_auroc": figure([auc], "", None, len(made), "fresh real patches; .5 is not told apart"),
        f"{name}_distance_above_floor": figure([gap], "", None, len(made), "real-vs-real floor"),
        f"{name}_images_per_second": figure([rate], "images/s", None, len(made), f"{size.steps} steps, decoded"),
        f"{name}_training_images": figure([images], "images", None, 1, f"{seconds:g} s of training"),
        f"{name}_encoding": figure([encoding], "s", None, len(cohort), "before training"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder", default="", help="KIND:FOLDER; latents are left out without it")
    parser.add_argument("--seconds", type=float, default=1200.0, help="of training, each way")
    parser.add_argument("--quick", action="store_true", help="tiny patches and networks, one update each way")
    options = parser.parse_args()
    size, seconds = (QUICK, 0.0) if options.quick else (Size(), options.seconds)
    cohort, real = fresh(size, size.training, 0, "training"), fresh(size, size.compared, 0, "reference")
    recipe = Recipe(
        batch=size.batch,
        save_every=size.batch,
        warmup=20 * size.batch,
        optimizer="muon",
        dihedral=False,
        noise_mean=-0.6 + math.log(size.pixels / 32),
    )
    network, found = NetworkSettings(size.pixels, 1, size.channels, preconditioning="blocks"), {}
    for fold in FOLDS:
        chosen = Preset(replace(network, fold=fold), recipe)
        found |= measured(f"fold_{fold}", chosen, cohort, real, size, options.out, seconds)
    if options.autoencoder:
        latents = replace(recipe, autoencoder=options.autoencoder, noise_mean=LATENT_NOISE)
        found |= measured("latents", Preset(network, latents), cohort, real, size, options.out, seconds)
        best = through(Autoencoder.open(options.autoencoder), fresh(size, size.compared, 0, "others"))
        found["round_trip_auroc"] = figure([auroc(real, best)], "", None, len(best), "fresh real patches")
        gap = distance(real, best, size.compared // 2)
        found["round_trip_distance_above_floor"] = figure([gap], "", None, len(best), "real-vs-real floor")
    report("latents", found, ("torch", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
