"""When does a remedy pay? Heads x sets without a generator as class and site are confounded more and more.

python benchmarks/confounding.py [--seeds 0 1 2] [--out runs/confounding] [--quick]

Phantom patches of every combination alike, 160 from slides of their own, are drawn to Cramer's V of 0, .25, .5, .75 and
1: 1,280 training patches each, with the same margins. Sets: real patches, Macenko normalisation, and the oracle, which
has other real patches beside until each combination has the 40 of V = 0. Endpoint: mean recall over all 32 combinations
alike, 40 fresh patches of each. nIPD of each set stands beside. OUT/confounding-SEED has the table and the figure of
each seed. The last line is one JSON object; spreads are over seeds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

import medi
from common import figure, report
from medi.api.sweeping import NIPD
from medi.cohort import phantom
from medi.cohort.table import Cohort, concatenate
from medi.core.claims import PRIMARY
from medi.core.tables import SWEEP
from medi.evaluation.classify.scoring import EVERY

EACH, TESTED = 160, 40


def cohort(seed: int, combinations: list[tuple[str, str]], each: int, tested: int) -> Cohort:
    """Fresh patches of every combination that train, and others that test."""
    train = phantom.fresh(combinations, each, seed, "confounding train").with_columns(split="train")
    return concatenate([train, phantom.fresh(combinations, tested, seed, "test").with_columns(split="test_seen")])


def figures(tables: list[pd.DataFrame]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Mean recall by set, head and strength, and what is told of the sets beside it."""
    rows = pd.concat(tables)
    whole = rows[(rows["metric"] == PRIMARY) & (rows["split"] == EVERY) & rows["value"].notna()]
    for (arm, head, v), part in whole.groupby(["arm", "head", "strength"], sort=False):
        against = f"mean recall over combinations, {int(part['n_train'].iloc[0]):,} training patches"
        yield f"{arm}_{head}_{v:g}", figure(part["value"].tolist(), "", None, len(part), against)
    for arm, part in rows[(rows["metric"] == NIPD) & rows["value"].notna()].groupby("arm", sort=False):
        yield f"{arm}_nipd", figure(part["value"].tolist(), "", None, len(part), "0: the site misleads nobody")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/confounding"))
    parser.add_argument("--quick", action="store_true", help="two classes at two sites, one head")
    options = parser.parse_args()
    combinations, sizes, asked = list(phantom.COMBINATIONS), (EACH, TESTED), {}
    if options.quick:
        combinations = [(c, s) for c in phantom.CLASSES[:2] for s in phantom.SITES[:2]]
        sizes, options.seeds = (20, 4), [0]
        asked = {"heads": ["logistic"], "sets": ["real"], "strengths": (0.0, 1.0)}
    tables = []
    for seed in options.seeds:
        folder = options.out / f"confounding-{seed}"
        if not (folder / "sweep.parquet").exists():
            made = cohort(seed, combinations, *sizes)
            found = medi.sweep(made, over=["class", "site"], seed=seed, **asked)
            found.save(folder)
            print(found, flush=True)
        tables.append(SWEEP.read(folder))
    report("confounding", dict(figures(tables)), ["numpy", "scikit-learn"])


if __name__ == "__main__":
    main()
