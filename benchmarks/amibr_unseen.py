"""AMi-Br with one domain that training never saw: what 60 unlabelled patches of it buy.

python benchmarks/amibr_unseen.py --cohort RUN/cohort [--domains "UMCU/Aperio CS2"] [--seeds 0] [--counts 0 60]
    [--out runs/amibr_unseen]
python benchmarks/amibr_unseen.py --quick      the same road on phantom patches, without AMi-Br

RUN is the folder of a `medi run ami_br`. A MeDi model with that study's network and recipe, and conditioning dropout,
learns from all patches of the other five domains. The slides of the sixth are dealt to four sets: those whose patches
are learned from, classes not given; test; floor; and labelled ones for the oracle. Then `medi.unseen`: 150 old patches
of each class carried to the new domain, and as many sampled there. Intervals resample slides. The last line is one
JSON object.
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common import figure, report
from medi.cohort import phantom
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.files import read_table
from medi.core.seeds import generator
from medi.evaluation.encoders import encoder
from medi.sampling.guidance import Guidance
from medi.sampling.sampler import SamplerSettings
from medi.sampling.transfer import TransferSettings
from medi.study.settings import embedded_study, find_study
from medi.study.unseen_level import Asked, Newcomer, unseen_level, without_level
from medi.training.adaptation.learning import AdaptSettings
from medi.training.loop import train

ATTRIBUTE, DROPOUT = "domain", 0.12
SHARES = {"learn": 0.2, "test": 0.4, "floor": 0.2, "oracle": 0.2}  # of the domain's slides
N = 30  # patches per distance, as the rarest class has
QUICK = Asked((0, 10), 4, 4, AdaptSettings(64, tune_images=64), SamplerSettings(2), TransferSettings(2))


def newcomer(cohort: Cohort, domain: str, seed: int) -> Newcomer:
    own = cohort.select((cohort.table[ATTRIBUTE] == domain).to_numpy())
    slides = generator("amibr", "unseen", seed, domain).permutation(np.unique(own.table["slide"].astype(str)))
    ends = np.rint(np.cumsum([*SHARES.values()]) * len(slides)).astype(int)
    named = dict(zip(SHARES, np.split(slides, ends[:-1])))
    learn, test, floor, oracle = (own.select(own.table["slide"].isin(named[s]).to_numpy()) for s in SHARES)
    order = generator("amibr", "learn", seed, domain).permutation(len(learn))
    learn = learn.select(order).with_columns(**{"class": "", ATTRIBUTE: ""})
    return Newcomer(ATTRIBUTE, f"new: {domain}", learn, test, floor, oracle)


def stand_in() -> Cohort:
    """Phantom patches of two classes at three sites under the names that AMi-Br has."""
    combinations = [(class_, site) for class_ in phantom.CLASSES[:2] for site in phantom.SITES[:3]]
    fresh = phantom.fresh(combinations, 40, 0, "amibr unseen", patches_per_slide=4)
    attributes = tuple(replace(a, name=ATTRIBUTE) for a in fresh.schema.attributes if a.name == "site")
    table = fresh.table.rename(columns={"site": ATTRIBUTE}).assign(patient=fresh.table["slide"])
    return Cohort(table, Schema(fresh.schema.classes, attributes), fresh.pixels)


def one(cohort: Cohort, domain: str, seed: int, out: Path, counts: tuple[int, ...], quick: bool) -> pd.DataFrame:
    """What `unseen_level` says, with the intervals of the differences from real patches alone."""
    study = embedded_study(quick) if quick else find_study(Path("ami_br"), Path("unused.csv"))
    old, recipe = without_level(cohort, ATTRIBUTE, domain), replace(study.training, dropout=DROPOUT)
    recipe = replace(recipe, images=256, save_every=256, warmup=16) if quick else recipe
    model = out / "base" / "model.safetensors"
    if not model.exists():
        train(old, model.parent, study.network, recipe, old.schema, seed)
    plain = replace(study.sampling, guidance=Guidance())  # an adapted model has no early average to be guided by
    asked = QUICK if quick else Asked(counts, distance_images=N, sampling=plain)
    asked = replace(asked, seed=seed, adapting=replace(asked.adapting, seed=seed))
    new = newcomer(cohort, domain, seed)
    print(domain, {name: len(getattr(new, name)) for name in SHARES}, flush=True)
    found = unseen_level(model, old, new, out, encoder("colour-texture"), asked)
    accuracy = read_table(out / "tables" / "utility.parquet")
    shown = accuracy[(accuracy["scope"] == "all") & accuracy["metric"].str.startswith("balanced_accuracy")]
    print(shown[["metric", "arm", "value", "low", "high"]].round(3).to_string(index=False), flush=True)
    return found.assign(domain=domain, seed=seed)


def figures(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    n, found = rows[["domain", "seed"]].drop_duplicates().shape[0], {}
    for (k, metric, arm), part in rows.groupby(["x", "metric", "arm"], sort=False):
        if part["value"].notna().all() and (arm in ("medi", "translated") or k == rows["x"].min()):
            name = f"k{k}_{arm}_{metric}" if arm in ("medi", "translated") else f"{arm}_{metric}"
            found[name] = figure(part["value"].tolist(), "s" if metric == "seconds" else "", None, n, "at the domain")
            if part["low"].notna().all() and n == 1:
                low, high = float(part["low"].iloc[0]), float(part["high"].iloc[0])
                found[name] |= {"spread": [round(low, 4), round(high, 4)], "against": "range: 95 % interval, slides"}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, help="packed AMi-Br, RUN/cohort")
    parser.add_argument("--domains", nargs="+", default=["UMCU/Aperio CS2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 60])
    parser.add_argument("--out", type=Path, default=Path("runs/amibr_unseen"))
    parser.add_argument("--quick", action="store_true", help="a model of 256 images of phantom patches")
    options = parser.parse_args()
    if not (options.quick or options.cohort):
        parser.error("--cohort is needed: the folder RUN/cohort of a run on AMi-Br")
    cohort, counts = stand_in() if options.quick else Cohort.load(options.cohort), tuple(options.counts)
    options.domains = options.domains if options.cohort else list(phantom.SITES[:1])
    rows = [
        one(cohort, domain, seed, options.out / f"{number}-{seed}", counts, options.quick)
        for (number, domain), seed in product(enumerate(options.domains), options.seeds)
    ]
    report("amibr_unseen", figures(pd.concat(rows)), ("torch", "diffusers", "peft", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
