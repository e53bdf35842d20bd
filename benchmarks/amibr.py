"""The study on AMi-Br, repeat by repeat: two hold-outs, several seeds, CLS against MeDi on held-out combinations.

python benchmarks/amibr.py --source AMI_BR/metadata.csv [--repeats ami_br:0 ami_br_2:1 ...]
    [--at-once 1] [--out runs/amibr]
python benchmarks/amibr.py --quick      the same road on the study `quick`, without AMi-Br

Runs `medi run` once per repeat, a study and a seed, as a user would, one after another or, where a GPU would be idle in
between, some at once; every run resumes, finished ones are read again. For a GPU: --repeats ami_br_64:0 ami_br_64:1
ami_br_64:2 ami_br_2_64:0 ami_br_2_64:1 ami_br_2_64:2 --at-once 6, and ami_br_128:0 by itself.

A figure's spread is its range over the repeats; the intervals of each repeat resample slides and stand in its own
tables. In the held-out combinations the domain says the other class than in training: a classifier that has learned
the domain is below chance there, one that has learned its reverse above; the mean of both splits (both_) rewards
neither. The last line is one JSON object.
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

import medi
from common import figure, report
from medi.core.files import read_json, write_json
from medi.core.tables import CONTROL, FIDELITY, UTILITY
from medi.study.context import MODELS
from medi.training.log import read_log

REPEATS = [f"{study}:{seed}" for study, seed in product(("ami_br", "ami_br_2"), range(3))]
Figures = dict[str, dict[str, Any]]


def run(study: str, seed: int, source: Path, out: Path) -> Path:
    """The run folder of one repeat, with its wall time in cost.json"""
    folder = out / f"{study}-{seed}"
    if not (folder / "cost.json").exists():
        start = time.perf_counter()
        command = [sys.executable, "-m", "medi.cli", "run", study, "--source", str(source), "--seed", str(seed)]
        subprocess.run([*command, "--out", str(folder)], check=True)
        write_json(folder / "cost.json", {"minutes": (time.perf_counter() - start) / 60})
    return folder


def stand_in(folder: Path) -> Path:
    """A run of the study `quick` on the phantom, made in this process."""
    if not (folder / "cost.json").exists():
        start = time.perf_counter()
        medi.run("quick", folder)
        write_json(folder / "cost.json", {"minutes": (time.perf_counter() - start) / 60})
    return folder


def distances(folder: Path) -> pd.DataFrame:
    """Mean distances over held-out combinations and their paired difference, a row per encoder and arm.

    Encoders go by name: the hash that follows it is another one in every repeat where the encoder is learned there.
    """
    table = FIDELITY.read(folder / "tables")
    table = table.assign(encoder=table["encoder"].str.split(" ").str[0])
    return table[(table["scope"] == "combination_mean") & (table["split"] == "unseen")]


def accuracies(folder: Path, split: str = "unseen") -> pd.DataFrame:
    table = UTILITY.read(folder / "tables")
    return table[(table["scope"] == "all") & (table["split"] == split)]


def values(tables: list[pd.DataFrame], **wanted: str) -> list[float]:
    """The one value of each table in the row that `wanted` names."""
    found = []
    for table in tables:
        rows = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
        found.append(float(rows["value"].iloc[0]) if len(rows) else float("nan"))
    return found


def interval(table: pd.DataFrame, **wanted: str) -> str:
    rows = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    if rows.empty:
        return "not measured"
    row = rows.iloc[0]
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def figures(folders: list[Path]) -> Figures:
    """Every figure over all repeats."""
    n, found = len(folders), Figures()
    minutes = [read_json(folder / "cost.json")["minutes"] for folder in folders]
    found["minutes"] = figure(minutes, "min", "<= 60", n, "one seed and one hold-out, CLS and MeDi")
    logs = [read_log(folder / "models" / model) for folder in folders for model in MODELS]
    rates = [median(row.images_per_second for row in log) for log in logs]
    found["images_per_second"] = figure(rates, "images/s", None, len(rates), "each model in training")
    measured, scored = [distances(f) for f in folders], [accuracies(f) for f in folders]
    of_seen = [accuracies(f, "seen") for f in folders]
    for encoder in sorted(set(measured[0]["encoder"])):
        frechet = {
            arm: values(measured, encoder=encoder, metric="frechet", arm=arm) for arm in ("floor", "cls", "medi")
        }
        ratio = [m / c for m, c in zip(frechet["medi"], frechet["cls"])]
        excess = [(m - f) / (c - f) for f, c, m in zip(*frechet.values())]
        found[f"{encoder}_ratio"] = figure(ratio, "", "<= 0.75", n, "MeDi / CLS, held-out combinations")
        found[f"{encoder}_excess_ratio"] = figure(excess, "", None, n, "(MeDi - floor) / (CLS - floor)")
        found |= {f"{encoder}_frechet_{arm}": figure(v, "", None, n, "held-out") for arm, v in frechet.items()}
    controls = [CONTROL.read(folder / "tables") for folder in folders]
    for arm in ("cls", "medi"):
        auroc = values(controls, metric="detectability", arm=arm, split="")
        found[f"detectability_{arm}"] = figure(auroc, "", None, n, "AUROC, told from real patches; 0.5: not at all")
    arms = sorted(set(scored[0]["arm"][scored[0]["metric"] == "balanced_accuracy"]))
    for arm in arms:
        unseen, seen = (values(tables, metric="balanced_accuracy", arm=arm) for tables in (scored, of_seen))
        target = "> 0.5" if arm == "medi" else None
        found[f"accuracy_{arm}"] = figure(unseen, "", target, n, "held-out combinations")
        found[f"seen_{arm}"] = figure(seen, "", None, n, "combinations that training has")
        found[f"both_{arm}"] = figure(np.add(unseen, seen) / 2, "", None, n, "the mean of both; chance 0.5")
        if arm != "medi":
            gain = values(scored, metric="balanced_accuracy_difference", arm="medi", against=arm)
            target = "> 0" if arm in ("real", "cls") else None
            found[f"medi_minus_{arm}"] = figure(gain, "", target, n, "balanced accuracy, held-out combinations")
    return found


def show(folders: list[Path]) -> None:
    """The intervals of each repeat."""
    for folder in folders:
        table = distances(folder)
        for encoder in sorted(set(table["encoder"])):
            wanted = {"encoder": encoder, "metric": "frechet_difference", "arm": "cls", "against": "medi"}
            print(f"{folder.name}: {encoder}: Frechet CLS - MeDi {interval(table, **wanted)}")
        for arm in ("real", "cls"):
            wanted = {"metric": "balanced_accuracy_difference", "arm": "medi", "against": arm}
            print(f"{folder.name}: balanced accuracy MeDi - {arm} {interval(accuracies(folder), **wanted)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="metadata.csv of AMi-Br")
    parser.add_argument("--repeats", nargs="+", default=REPEATS, help="STUDY:SEED; by default three seeds of each")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("--out", type=Path, default=Path("runs/amibr"))
    parser.add_argument("--quick", action="store_true", help="one run of the study `quick`, without AMi-Br")
    options = parser.parse_args()
    if not (options.quick or options.source):
        parser.error("--source is needed: the metadata.csv of AMi-Br")
    asked = [repeat.partition(":")[::2] for repeat in options.repeats]
    folders = [stand_in(options.out / "quick-0")] if options.quick else []
    with ThreadPoolExecutor(options.at_once) as pool:
        folders = folders or list(pool.map(lambda one: run(one[0], int(one[1]), options.source, options.out), asked))
    show(folders)
    report("amibr", figures(folders), ("torch", "diffusers", "numpy"))


if __name__ == "__main__":
    main()
