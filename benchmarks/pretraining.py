"""Weights to begin with (`training.init`): the network of the laptop presets, trained on endless procedural tissue.

python benchmarks/pretraining.py [--out runs/pretraining] [--images 1200000] [--threads 1] [--ship FILE] [--quick]

131,072 patches of 32 px: 2,048 tissues and 2,048 sites from `medi.cohort.phantom.families`, each pair by chance, so
that they say nothing of each other. None of them is the phantom's, and no real patch is among them. The network learns
to show the factors of a tissue and of a site as asked. The same command goes on where it stopped. --ship writes the
network alone, without what reads these factors: a file that `training.init` takes. The last line is one JSON object.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from common import figure, report
from medi.cohort.phantom import families
from medi.cohort.table import Cohort
from medi.models.checkpoint import load_tensors, save_tensors
from medi.models.first_weights import PREFIX
from medi.training.log import read_log
from medi.training.loop import train
from medi.training.presets import preset
from medi.training.recipe import Recipe

SEED = 0
NETWORK = replace(preset("laptop32").network, join="additive")
RECIPE = Recipe(
    images=1_200_000,
    warmup=4_000,
    optimizer="muon",
    noise_mean=-0.6,
    noise_std=1.4,
    balance=0.0,
    dropout=0.1,
    save_every=24_000,
)
PATCHES, LEVELS = 131_072, 2_048


def drawn(folder: Path, patches: int, levels: int) -> Cohort:
    """The patches of the pretraining, kept in a folder: drawing them takes minutes."""
    if not (folder / "cohort.json").exists():
        families.described(families.cohort(SEED, patches, levels, levels), SEED).save(folder)
    return Cohort.load(folder)


def ship(model: Path, out: Path) -> Path:
    """Write the network of a model alone, with what its file says of the training, but not of conditions."""
    tensors, config = load_tensors(model)
    network = {name: value for name, value in tensors.items() if name.startswith((PREFIX, "blocks."))}
    kept = {name: config[name] for name in ("network", "recipe", "seed", "images", "info", "mpp") if name in config}
    return save_tensors(out, network, kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--images", type=int, default=RECIPE.images)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ship", type=Path, help="write the network alone to this file")
    parser.add_argument("--quick", action="store_true", help="few patches and images")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = replace(RECIPE, images=options.images)
    patches, levels = PATCHES, LEVELS
    if options.quick:
        patches, levels, recipe = 64, 4, replace(recipe, images=64, save_every=64, warmup=16)
    cohort = drawn(options.out / "patches", patches, levels)
    model = train(cohort, options.out / "model", NETWORK, recipe, cohort.schema, SEED)
    if options.ship:
        ship(model, options.ship)
    log = read_log(options.out / "model")
    rate = sum(row.images_per_second for row in log) / len(log)
    hours = recipe.images / rate / 3600
    figures = {
        "loss": figure([log[-1].loss], "", None, recipe.images, "of the last rows of the log"),
        "hours": figure([hours], "h", None, recipe.images, f"{options.threads} threads, other work beside it"),
    }
    report("pretraining", figures, ["torch", "diffusers"])


if __name__ == "__main__":
    main()
