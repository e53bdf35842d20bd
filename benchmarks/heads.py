"""Heads x training sets: how long they take on large embeddings, and what they reach on finished runs.

python benchmarks/heads.py [--run RUN ...] [--quick]

Times are CPU seconds: run it with one thread (OMP_NUM_THREADS=1). speed: every head on real rows, with two synthetic
sets, each once more without its gap, and with the oracle's, 20,000 rows of 1,024 numbers. RUN, in place of that: a
finished run of `medi demo` or `medi run`, of which the table of sets by heads is printed, stain normalisation among the
sets. Spreads are 95 % intervals over patients. The last line is one JSON object.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common import figure, report
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Arm, Material
from medi.evaluation.classify.crossed import crossed, sets_of
from medi.evaluation.classify.heads import HEADS
from medi.report.heads import by_head, heads_sentences
from medi.study.context import reopen
from medi.study.measuring import parts_of_utility, stained_of
from utility import OVER, cohort

ROWS, NUMBERS = 20_000, 1024
QUICK_ROWS, QUICK_NUMBERS = 1200, 300
QUICK_HEADS = ("logistic", "two_way", "crm")


@one_thread
def compared(material: Material, names: tuple[str, ...], more: Sequence[Arm] = ()) -> pd.DataFrame:
    """The table of all sets that the material makes, under these heads."""
    arms = [Arm("real", material.real)]
    arms += [Arm(name, material.real.join(rows)) for name, rows in material.synthetic.items()]
    if material.oracle is not None:
        arms.append(Arm("oracle", material.real.join(material.oracle)))
    arms += more
    asked: dict[str, Any] = {"over": material.over, "seed": 0, "seeds": (0,), "reference": material.reference}
    return crossed(sets_of(arms, material), material.tests, names, **asked)


def speed(rows: int, numbers: int, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """All heads and sets on made-up embeddings."""
    real, synthetic, oracle, tests = cohort(rows, numbers)
    start = time.process_time()
    found = compared(Material(real, synthetic, tests, OVER, oracle=oracle), names)
    minutes = (time.process_time() - start) / 60
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(by_head(found).round(3).to_string())
    fits = int((found["metric"] == "inner_recall").sum())
    return {
        "cpu": figure([minutes], "min", "<= 15", fits, f"heads x sets on {rows:,} x {numbers:,} embeddings"),
        "memory": figure([memory], "GiB", "<= 4", 1, "the largest resident size of the process"),
    }


def of_run(folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The table of a finished run, and MeDi less real under each head."""
    study = reopen(folder)
    material = parts_of_utility(study)
    found = compared(material, names, stained_of(study, material.real, list(material.tests), study.encoder()))
    print(f"\n{folder}\n{by_head(found).round(3).to_string()}", *heads_sentences(found), sep="\n")
    whole = found[found["split"] == "all"]
    values = whole[(whole["metric"] == "mean_recall") & whole["value"].notna()]
    gaps = whole[(whole["metric"] == "mean_recall_difference") & (whole["arm"] == "medi")]
    figures = {f"{folder.name}_{row.arm}_{row.head}": _figure(row) for row in values.itertuples()}
    return figures | {
        f"{folder.name}_medi_less_{row.against}_{row.head}": _figure(row)
        for row in gaps[gaps["against"].isin(["real", "macenko"])].itertuples()
    }


def _figure(row: Any) -> dict[str, Any]:
    found = figure([row.value], "", None, int(row.n_patients), "mean recall over combinations, the same head")
    return found | {"spread": [round(row.low, 4), round(row.high, 4)]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, nargs="*", default=[])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    names = QUICK_HEADS if asked.quick else tuple(HEADS)
    rows, numbers = (QUICK_ROWS, QUICK_NUMBERS) if asked.quick else (ROWS, NUMBERS)
    figures = {} if asked.run and not asked.quick else speed(rows, numbers, names)
    for folder in asked.run:
        figures |= of_run(folder, names)
    report("heads", figures, ["numpy", "scipy", "scikit-learn"])


if __name__ == "__main__":
    main()
