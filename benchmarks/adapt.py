"""A hospital that training never saw: what k unlabelled patches of it buy, k = 0, 10, 30, 60, 240.

python benchmarks/adapt.py [--worlds 0:Elm 0:Birch ...] [--out runs/adapt] [--quick]

A world is a seed and a site. For each a MeDi model is trained as in `medi demo`, but with conditioning dropout and on
all other sites of the phantom only (kept in --out). It learns the site from k patches of two of the four classes,
classes not given; then 150 training patches of each of the four classes are carried there, and as many images sampled
("sampled_"). The probe is tested on fresh patches of that site: real images of the other sites alone, with either set,
and with 240 labelled real patches of the site (oracle). k = 0 is the mean of the known sites. The last line is one JSON
object.
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from common import figure, report
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.evaluation.encoders import encoder
from medi.models.checkpoint import load_model
from medi.sampling.sampler import SamplerSettings
from medi.sampling.transfer import TransferSettings
from medi.study.settings import embedded_study
from medi.study.unseen_level import COUNTS, Asked, Newcomer, unseen_level, without_level
from medi.training.adaptation.learning import LOW_RANK, TUNED, VECTOR, AdaptSettings
from medi.training.loop import train

DROPOUT = 0.12
ORACLE = 60  # labelled patches per class
N = 100  # images per distance
QUICK = Asked((0, 10), 4, 4, AdaptSettings(64, tune_images=64), SamplerSettings(2), TransferSettings(2))
NAME = "new hospital"
WORLDS = [f"{seed}:{site}" for seed, site in product((0, 1, 2), ("Elm", "Birch", "Maple"))]


def trained(seed: int, site: str, out: Path, quick: bool) -> tuple[Path, Cohort]:
    study = embedded_study(quick)
    patches = phantom.cohort(seed, 32, 200 if quick else study.cohort.patches)
    cohort = without_level(patches, "site", site)
    recipe = replace(study.training, dropout=DROPOUT)
    recipe = replace(recipe, images=256, save_every=256, warmup=16) if quick else recipe
    if not (out / "model.safetensors").exists():
        train(cohort, out, study.network, recipe, cohort.schema, seed)
    return out / "model.safetensors", cohort


def newcomer(seed: int, site: str, k: int, images: int) -> Newcomer:
    """The site's patches: k to learn from, of two classes in turn, without class and site; others to measure with."""
    combinations, n = [(name, site) for name in phantom.CLASSES], -(-k // 2)
    two = phantom.fresh([combinations[(seed + i) % 4] for i in (0, 2)], n, seed, "new hospital")
    learn = two.select(pd.RangeIndex(2 * n).to_numpy().reshape(2, n).T.ravel())
    counts = {"test": images, "floor": images, "oracle": min(ORACLE, images)}
    test, floor, more = (phantom.fresh(combinations, n, seed, stream) for stream, n in counts.items())
    return Newcomer("site", NAME, learn.with_columns(**{"class": "", "site": ""}), test, floor, more)


def one(seed: int, site: str, out: Path, quick: bool, counts: tuple[int, ...]) -> pd.DataFrame:
    """A row per k: what the arm says, and which method the held-back patches chose."""
    model, old = trained(seed, site, out / "base", quick)
    asked = QUICK if quick else Asked(counts, distance_images=N, sampling=embedded_study().sampling)
    asked = replace(asked, seed=seed, adapting=replace(asked.adapting, seed=seed))
    new = newcomer(seed, site, max(asked.counts), asked.distance_images)
    found = unseen_level(model, old, new, out, encoder("colour-texture"), asked)
    found["key"] = found["metric"] + " " + found["arm"]
    rows = found.pivot(index="x", columns="key", values="value").rename_axis("k").reset_index()
    rows = rows.join(pd.DataFrame([learning(out / f"k{k}" / "model.safetensors") for k in rows["k"]]))
    print(seed, site, rows.round(3).to_string(), sep="\n", flush=True)
    return rows.assign(seed=seed, site=site)


def learning(model: Path) -> dict[str, Any]:
    """How an adapted model came to be: the method, and how much more the old patches cost it, relative."""
    records = load_model(model)[1].adaptations
    if not records:
        return {"method": "mean", "drift": 0.0}
    old = records[-1]["old_loss"]
    return {"method": records[-1]["method"], "drift": old[records[-1]["method"]] / old[VECTOR] - 1}


def figures(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    n = rows[["seed", "site"]].drop_duplicates().shape[0]
    found = {}
    for k, part in rows.groupby("k"):
        arms = []
        for arm, name in (("translated", ""), ("medi", "sampled_")):
            ratio = part[f"frechet {arm}"] / part["frechet floor"]
            arms += [
                (f"{name}gap_closed", part[f"gap_closed {arm}"], "", ">= 0.65", "real only to 240 labelled patches"),
                (f"{name}accuracy", part[f"balanced_accuracy {arm}"], "", None, "balanced, at the site"),
                (f"{name}frechet_over_floor", ratio, "", "<= 4", "means over classes, as other real patches"),
                (f"{name}frechet_worst_over_floor", part[f"frechet_worst_ratio {arm}"], "", None, "the worst class"),
            ]
        for key, values, unit, target, against in (
            ("seconds", part["seconds medi"], "s", "<= 60", "adaptation alone"),
            *arms,
            ("drift", part["drift"], "", None, "relative loss on old patches, 0 for a vector alone"),
            ("low_rank", (part["method"] == LOW_RANK) * 1.0, "", None, "share where low-rank changes were kept"),
            ("tuned", (part["method"] == TUNED) * 1.0, "", None, "share where all weights were tuned"),
        ):
            found[f"k{k}_{key}"] = figure(list(values), unit, target if k == 60 else None, n, against)
    first = rows.groupby(["seed", "site"]).first()
    for arm in ("real", "oracle"):
        values = list(first[f"balanced_accuracy {arm}"])
        found[f"accuracy_{arm}"] = figure(values, "", None, n, "balanced, at the site")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=WORLDS, metavar="SEED:SITE")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--out", type=Path, default=Path("runs/adapt"))
    parser.add_argument("--quick", action="store_true", help="tiny models of the first world, 0 and 10 patches")
    options = parser.parse_args()
    chosen = options.worlds[:1] if options.quick else options.worlds
    worlds = [(int(seed), site) for seed, _, site in (world.partition(":") for world in chosen)]
    rows = [
        one(seed, site, options.out / f"seed{seed}-{site}", options.quick, tuple(options.counts))
        for seed, site in worlds
    ]
    report("adapt", figures(pd.concat(rows)), ("torch", "diffusers", "peft", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
