"""Which guidance a study's models want, by what their training patches say alone.

python benchmarks/guidance.py RUN [RUN ...] [--weights 0.2 0.5 1] [--below 0.3 1 inf] [--above 0] [--steps 16]
    [--eta 0 0.7 --eta-within 0.3 3] [--images 100] [--sheet DIR] [--quick]

RUN is a run of `medi run` with both models trained, of a study that keeps an early average
(`training.early_average`). Its MeDi model, guided by that average with each weight and below each noise level (and
above that of --above), with each share of fresh noise, makes images of the training combinations that have enough
patches; their Frechet distances (colour-texture) to as many training patches of the same combination are averaged. No
patch of another split is opened. "alone" is the model without guidance or fresh noise. --sheet keeps 24 images of
each setting and combination. The last line is one JSON object."""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common import figure, report
from medi.core import seeds
from medi.evaluation.encoders import encoder
from medi.evaluation.fidelity.frechet import frechet_distance
from medi.models.checkpoint import load_model
from medi.sampling.guidance import Guidance
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.study.context import reopen
from medi.training.loop import EARLY

SEED = 5  # of the noise: none that a study samples with
SHOWN = 24


def settings(base: SamplerSettings, options: argparse.Namespace) -> dict[str, SamplerSettings]:
    base = replace(base, steps=options.steps or base.steps, eta=0.0, eta_interval=tuple(options.eta_within))
    found = {"alone": replace(base, guidance=Guidance())}
    for weight, sigma, eta in product(options.weights, options.below, options.eta):
        guidance = Guidance(autoguidance=weight, interval=(options.above, sigma))
        fresh = f"_eta_{eta:g}" if eta else ""
        found[f"weight_{weight:g}_below_{sigma:g}{fresh}"] = replace(base, guidance=guidance, eta=eta)
    return found


def distances(run: Path, asked: dict[str, SamplerSettings], n: int, sheet: Path | None) -> dict[str, float]:
    """Mean over combinations of the distance to n training patches, per setting."""
    study = reopen(str(run))
    train = study.split().where(split="train")
    model, _ = load_model(run / "models" / "medi" / "model.safetensors")
    weak, _ = load_model(run / "models" / "medi" / EARLY)
    over, encode = ["class", study.settings.attribute], encoder("colour-texture").encode
    groups = [part for _, part in train.table.reset_index(drop=True).groupby(over) if len(part) >= n]
    order = seeds.generator("guidance", study.settings.seed)
    real = [np.sort(order.permutation(part.index)[:n]) for part in groups]
    if not real:
        raise SystemExit(f"{run}: no combination has {n} training patches; choose fewer with --images")
    found = {}
    for name, sampler in asked.items():
        guide, values = (weak if sampler.guidance.autoguidance else None), []
        for at in real:
            rows = pd.DataFrame(train.table.iloc[at]).assign(noise_id=[str(i) for i in range(n)])
            images = sample_images(model, rows, SEED, replace(sampler, batch=n), guide)
            values.append(frechet_distance(encode(train.images[at]), encode(images)))
            if sheet is not None:
                sheet.mkdir(parents=True, exist_ok=True)
                where = sheet / f"{run.name}-{name}-{len(values)}.png"
                Image.fromarray(np.concatenate(list(images[:SHOWN]), axis=1)).save(where)
        found[name] = float(np.mean(values))
        print(f"{run.name}: {name}: {found[name]:.2f} over {len(real)} combinations, n = {n}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.2, 0.5, 1.0])
    parser.add_argument("--below", type=float, nargs="+", default=[0.3, 1.0, float("inf")], help="noise levels")
    parser.add_argument("--above", type=float, default=0.0, help="noise level from which on images are guided")
    parser.add_argument("--steps", type=int, help="noise levels; those of the study if not given")
    parser.add_argument("--eta", type=float, nargs="+", default=[0.0], help="shares of fresh noise")
    parser.add_argument("--eta-within", type=float, nargs=2, default=[0.3, 3.0], help="noise levels with fresh noise")
    parser.add_argument("--images", type=int, default=100, help="images and patches of a combination")
    parser.add_argument("--sheet", type=Path, help="folder for pictures")
    parser.add_argument("--quick", action="store_true", help="two settings, 2 steps, 12 images of a combination")
    options = parser.parse_args()
    if options.quick:
        options.weights, options.below, options.steps, options.images = [0.5], [1.0], 2, 12
    base = reopen(str(options.runs[0])).settings.sampling
    asked = settings(base, options)
    found = [distances(run, asked, options.images, options.sheet) for run in options.runs]
    against = "mean Frechet distance to training patches of the same combination; the spread is over runs"
    figures = {name: figure([run[name] for run in found], "", None, len(found), against) for name in asked}
    report("guidance", figures, ("torch", "diffusers", "numpy"))


if __name__ == "__main__":
    main()
