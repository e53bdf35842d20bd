"""A hospital that training never saw: what k unlabelled patches of it buy, k = 0, 10, 30, 60, 240.

python benchmarks/adapt.py [--seeds 0 1 2] [--sites Elm Birch Maple] [--out runs/adapt] [--quick]

For each seed and site a MeDi model is trained as in `medi demo`, but with conditioning dropout and on all other sites
of the phantom only (kept in --out). It learns the site from k patches of two of the four classes, classes not given;
then images of all four are sampled there. The probe is tested on fresh patches of that site: real images of the other
sites alone, with the sampled images, and with 240 labelled real patches of the site (oracle). k = 0 is the mean of the
known sites. The last line is one JSON object.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common import figure, report
from medi.cohort import phantom
from medi.cohort.plan import images
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.diffusion.adapt import adapt, extended
from medi.diffusion.checkpoint import load_model, save_model
from medi.diffusion.generation import generate
from medi.diffusion.training import train
from medi.evaluation import utility
from medi.evaluation.encoders import embed, encoder
from medi.evaluation.frechet import frechet_distance
from medi.settings import embedded_study

DROPOUT = 0.12
COUNTS = (0, 10, 30, 60, 240)
ORACLE = 60  # labelled patches per class
SAMPLED = 150  # images per class
N = 100  # images per distance
NAME = "new hospital"


def others(seed: int, site: str, patches: int) -> Cohort:
    """The collected cohort without a site, in rows and in levels."""
    whole = phantom.cohort(seed, 32, patches)
    kept = whole.select((whole.table["site"] != site).to_numpy())
    attributes = [
        replace(a, levels=tuple(level for level in a.levels if level != site)) for a in whole.schema.attributes
    ]
    return Cohort(kept.table, Schema(whole.schema.classes, tuple(attributes)), kept.pixels, whole.info)


def trained(seed: int, site: str, out: Path, quick: bool) -> tuple[Path, Cohort]:
    study = embedded_study(quick)
    cohort = others(seed, site, study.cohort.patches)
    recipe = replace(study.training, dropout=DROPOUT)
    if not (out / "model.safetensors").exists():
        train(cohort, out, study.network, recipe, cohort.schema, seed)
    return out / "model.safetensors", cohort


def patches(seed: int, site: str, k: int) -> Cohort:
    """k patches of two classes, from slides of their own, without class and site; the first of more are the same."""
    classes = [phantom.CLASSES[(seed + i) % 4] for i in (0, 2)]
    found = phantom.fresh([(name, site) for name in classes], -(-k // 2), seed, "new hospital")
    return found.with_columns(**{"class": "", "site": ""})


def learn(model: Path, seed: int, site: str, k: int, old: Cohort, out: Path) -> tuple[Path, dict[str, Any]]:
    """The adapted model; k = 0 gives the mean of the known sites."""
    shutil.rmtree(out, ignore_errors=True)
    if k == 0:
        denoiser, config = load_model(model)
        save_model(out / "model.safetensors", extended(denoiser, "site", NAME), config)
        return out / "model.safetensors", {"method": "mean", "seconds": 0.0}
    made = adapt(model, patches(seed, site, k), "site", NAME, out, rehearsal=old)
    return made.path, made.record


def sampled(model: Path, seed: int, site: str, out: Path) -> Cohort:
    """The same number of every class at the new level; the group is not known there."""
    counts = pd.DataFrame({"class": phantom.CLASSES, "site": NAME, "group": "", "n": SAMPLED})
    rows = images(counts)
    made = generate(model, rows, out, seed, embedded_study().sampling)
    assert made is not None
    return made.with_columns(site=site)


def one(seed: int, site: str, out: Path, quick: bool, counts: Sequence[int]) -> list[dict[str, Any]]:
    """A row per k: seconds, distances, accuracies."""
    model, old = trained(seed, site, out / "base", quick)
    extractor = encoder("colour-texture")
    cells = [(name, site) for name in phantom.CLASSES]
    test, floor, more = (phantom.fresh(cells, n, seed, s) for n, s in ((N, "test"), (N, "floor"), (ORACLE, "oracle")))
    x = {"test": embed(test, extractor), "floor": embed(floor, extractor), "oracle": embed(more, extractor)}
    real = utility.Arm("real", embed(old, extractor), old.table)
    oracle = utility.Arm("oracle", *_join((real.embeddings, real.table), (x["oracle"], more.table)))
    rows = []
    for k in counts:
        path, record = learn(model, seed, site, k, old, out / f"k{k}")
        shutil.rmtree(out / f"k{k}" / "samples", ignore_errors=True)
        start = time.perf_counter()
        made = sampled(path, seed, site, out / f"k{k}" / "samples")
        features = embed(made, extractor)
        arm = utility.Arm("medi", *_join((real.embeddings, real.table), (features, made.table)))
        table = utility.evaluate([real, arm, oracle], {"unseen": (x["test"], test.table)}, seed=seed)
        row = {"seed": seed, "site": site, "k": k, "method": record["method"], "seconds": record["seconds"]}
        row |= {"drift": _drift(record), "sampling": time.perf_counter() - start}
        row |= _accuracy(table) | _distances(features, made.table, x, test.table)
        print({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}, flush=True)
        rows.append(row)
    return rows


def _join(a: tuple[np.ndarray, pd.DataFrame], b: tuple[np.ndarray, pd.DataFrame]) -> tuple[np.ndarray, pd.DataFrame]:
    return np.concatenate([a[0], b[0]]), pd.concat([a[1], b[1]], ignore_index=True)


def _drift(record: dict[str, Any]) -> float:
    drift = record.get("drift")
    return drift["after"] / drift["before"] - 1 if drift and record["method"] == "tuned" else 0.0


def _accuracy(table: pd.DataFrame) -> dict[str, float]:
    overall = table[(table["metric"] == "balanced_accuracy") & (table["scope"] == "all")].set_index("arm")["value"]
    gap = (overall["medi"] - overall["real"]) / (overall["oracle"] - overall["real"])
    return {f"accuracy_{arm}": float(overall[arm]) for arm in ("real", "medi", "oracle")} | {"gap_closed": float(gap)}


def _distances(
    features: np.ndarray, table: pd.DataFrame, x: dict[str, np.ndarray], test: pd.DataFrame
) -> dict[str, float]:
    """Mean over classes of the distance of N images to N real ones, and of as many other real ones."""
    made, floor = [], []
    for name in phantom.CLASSES:
        at = (test["class"] == name).to_numpy()
        made.append(frechet_distance(x["test"][at], features[(table["class"] == name).to_numpy()][:N]))
        floor.append(frechet_distance(x["test"][at], x["floor"][at]))
    ratio = max(a / b for a, b in zip(made, floor))
    return {"frechet": float(np.mean(made)), "floor": float(np.mean(floor)), "worst_ratio": float(ratio)}


def figures(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    n = rows[["seed", "site"]].drop_duplicates().shape[0]
    found = {}
    for k, part in rows.groupby("k"):
        ratio = part["frechet"] / part["floor"]
        for key, values, unit, target, against in (
            ("seconds", part["seconds"], "s", "<= 60", "adaptation alone"),
            ("gap_closed", part["gap_closed"], "", ">= 0.65", "real only to 240 labelled patches of the site"),
            ("accuracy", part["accuracy_medi"], "", None, "balanced, at the site"),
            ("frechet_over_floor", ratio, "", "<= 4", "mean over classes, as other real patches"),
            ("drift", part["drift"], "", None, "relative loss on old patches, 0 for a vector alone"),
            ("tuned", (part["method"] == "tuned") * 1.0, "", None, "share where all weights were tuned"),
        ):
            found[f"k{k}_{key}"] = figure(list(values), unit, target if k == 60 else None, n, against)
    first = rows.groupby(["seed", "site"]).first()
    for arm in ("real", "oracle"):
        found[f"accuracy_{arm}"] = figure(list(first[f"accuracy_{arm}"]), "", None, n, "balanced, at the site")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sites", nargs="+", default=["Elm", "Birch", "Maple"])
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--out", type=Path, default=Path("runs/adapt"))
    parser.add_argument("--quick", action="store_true", help="tiny models")
    options = parser.parse_args()
    worlds = list(product(options.seeds, options.sites))
    rows = [
        row
        for seed, site in worlds
        for row in one(seed, site, options.out / f"seed{seed}-{site}", options.quick, options.counts)
    ]
    report("adapt", figures(pd.DataFrame(rows)), ("torch", "diffusers", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
