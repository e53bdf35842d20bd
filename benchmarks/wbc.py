"""The study on white blood cells (WBC), hold-out by hold-out: a real world whose class is visible at 32 px.

python benchmarks/wbc.py --source WBC/metadata.csv [--holdouts 0 1] [--seeds 0] [--out runs/wbc]
python benchmarks/wbc.py --run RUN [RUN ...] [--quick]      reads finished runs of any study, without WBC

Six hold-outs of three combinations, of three classes and three laboratories each, are drawn once; every combination is
held out in one at least. Hold-outs 0 and 1 are for development, 2 to 5 for confirmation. Runs `medi run wbc` for each,
one after another; every run resumes, finished ones are read again.

Figures: mean recall over combinations (all, unseen, seen) of each training set under each head, and in each further
encoder; MeDi less other sets; distances, variety, and what images show as asked, in every encoder. A spread of a single
run is its 95 % interval; of WBC over single images, as the table names no patient, so it is too narrow. Of several runs
it is their range. Differences also have a t interval over runs, which share most of their training images. The last
line is one JSON object.
"""

import argparse
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import medi
from common import figure, report
from medi.core.files import read_json
from medi.core.progress import Silent
from medi.core.seeds import generator
from medi.core.tables import BY_ENCODER, CONTROL, CROSSED, FIDELITY, HEADS, PROBE, UTILITY
from medi.evaluation.statistics import t_interval
from medi.study.settings import find_study

CLASSES = ("neutrophil", "lymphocyte", "eosinophil", "monocyte")
LABS = ("tecom_motic", "cellavision", "bccd")
HOLDOUTS = 6
AGAINST = ("real", "cls", "macenko", "pure_noise", "coral", "style")
GAINING = ("medi", "medi_macenko", "medi_filtered_macenko")
Figures = dict[str, dict[str, Any]]
Pair = tuple[str, str]


def holdouts() -> list[tuple[Pair, ...]]:
    """Six different hold-outs in which every combination lies once at least."""
    rng = generator("wbc hold-outs")
    while True:
        drawn = [
            tuple((str(class_), lab) for class_, lab in zip(rng.choice(CLASSES, len(LABS), replace=False), LABS))
            for _ in range(HOLDOUTS)
        ]
        held = {pair for holdout in drawn for pair in holdout}
        if len(set(drawn)) == HOLDOUTS and len(held) == len(CLASSES) * len(LABS):
            return drawn


def run(holdout: int, seed: int, source: Path, out: Path) -> Path:
    """The run folder of one hold-out and seed."""
    folder = out / f"wbc-{holdout}-{seed}"
    study = find_study("wbc", source, seed)
    rule = study.holdout.model_copy(update={"held": holdouts()[holdout]})
    medi.run(study.model_copy(update={"holdout": rule}), folder, show=Silent())
    return folder


def recalls(folder: Path) -> pd.DataFrame:
    """Rows of mean recalls and their differences; head: "study" in the main table, the encoder in that of others."""
    tables = [UTILITY.read(folder / "tables").assign(head="study")]
    if HEADS.exists(folder / "tables"):
        tables.append(HEADS.read(folder / "tables"))
    if BY_ENCODER.exists(folder / "tables"):
        others = BY_ENCODER.read(folder / "tables")
        tables.append(others.assign(head=others["encoder"].str.split(" ").str[0]))
    table = pd.concat(tables, ignore_index=True)
    return table[table["metric"].isin(["mean_recall", "mean_recall_difference"]) & table["value"].notna()]


def images_of(folder: Path) -> pd.DataFrame:
    """Rows of what images of unseen combinations are, in every encoder.

    Mean distances and recall less the floor's, the shares that a probe of crossed real patches tells as asked (of all
    and of each class), and the AUROC of a detector.
    """
    there = [kind for kind in (FIDELITY, CONTROL, BY_ENCODER) if kind.exists(folder / "tables")]
    found = pd.concat([kind.read(folder / "tables") for kind in there], ignore_index=True)
    found = found.fillna({"attribute": "", "class": "", PROBE: ""})
    near = found["scope"].eq("combination_mean") & found["metric"].isin(["frechet", "recall_difference"])
    shown = found["metric"].eq("as_asked") & found[PROBE].eq(CROSSED) & found["scope"].isin(["all", "class"])
    wanted = (near | shown | found["metric"].eq("detectability")) & found["split"].eq("unseen") & found["value"].notna()
    return found[wanted].assign(what=found["attribute"].where(shown, found["metric"]))


def named(table: pd.DataFrame, keys: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Value and interval of every row, by the words of these columns."""
    rows = table.to_dict("records")
    return {"_".join(row[key] for key in keys if row[key]): (row["value"], row["low"], row["high"]) for row in rows}


def read(folder: Path) -> dict[str, tuple[float, float, float]]:
    """Every figure of one run, with its interval."""
    table = recalls(folder)
    gains = table[(table["metric"] == "mean_recall_difference") & table["arm"].isin(GAINING)]
    gains = gains[gains["against"].isin(AGAINST)].assign(less="less")
    alone = table[table["metric"] == "mean_recall"]
    images = images_of(folder)
    encoder = images["encoder"].str.split(" ").str[0]
    return (
        named(alone, ("arm", "split", "head"))
        | named(gains, ("arm", "less", "against", "split", "head"))
        | named(images.assign(encoder=encoder), ("arm", "what", "against", "class", "encoder"))
    )


def over_runs(values: Sequence[float]) -> str:
    """The t interval of a difference over runs, in words; "" of one run."""
    if len(values) < 2:
        return ""
    found = t_interval(float(np.mean(values)), float(np.var(values, ddof=1) / len(values)), len(values) - 1)
    return f"; 95 % t interval over runs {found.low:.3f} to {found.high:.3f}"


def figures(folders: Sequence[Path], target: str | None) -> Figures:
    """Each figure as the mean over runs with its range, or of one run with its interval; target: of the minutes."""
    runs = [read(folder) for folder in folders]
    stages = [read_json(folder / "run.json")["stages"].values() for folder in folders]
    minutes = [sum(stage["seconds"] for stage in each) / 60 for each in stages]
    made = {"minutes": figure(minutes, "min", target, len(minutes), "all stages of one run")}
    for name in runs[0]:
        values = [found[name] for found in runs if name in found]
        goal = "> 0" if name.startswith(("medi_less_real_unseen", "medi_less_cls_unseen")) else None
        alone = [value for value, _, _ in values]
        made[name] = figure(alone, "", goal, len(values), "range over runs" + ("_less_" in name) * over_runs(alone))
        if len(folders) == 1 and all(map(isfinite, values[0])):
            made[name] |= {
                "spread": [round(bound, 4) for bound in values[0][1:]],
                "against": "95 % interval of one run",
            }
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="metadata.csv of WBC")
    parser.add_argument("--holdouts", type=int, nargs="+", default=[0, 1], choices=range(HOLDOUTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/wbc"))
    parser.add_argument("--run", type=Path, nargs="+", default=[], help="finished runs, which are read")
    parser.add_argument("--quick", action="store_true", help="nothing less: a finished run is read in seconds")
    options = parser.parse_args()
    if not (options.run or options.source):
        parser.error("--source is needed: the metadata.csv of WBC")
    folders = list(options.run)
    if not folders:
        asked = [(holdout, seed) for seed in options.seeds for holdout in options.holdouts]
        folders = [run(holdout, seed, options.source, options.out) for holdout, seed in asked]
    report("wbc", figures(folders, None if options.run else "<= 15"), ("torch", "diffusers", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
