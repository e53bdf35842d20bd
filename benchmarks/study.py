"""The whole study on the phantom: what MeDi buys on combinations it never saw, and what it costs.

python benchmarks/study.py [--seeds 0 1 2] [--out runs/study] [--quick]

Runs `medi demo` once per seed as a user would, one after another; finished runs in --out are kept and read again,
but then their time and memory are not measured. The last line is one JSON object.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import Peak, figure, report
from medi.cohort import phantom
from medi.core.files import read_json, write_json
from medi.evaluation.encoders import embed, encoder

Figures = dict[str, dict[str, Any]]
PROBED = (60, 40)  # patches of a combination, to learn and to test


def demo(out: Path, seed: int, quick: bool) -> dict[str, Any]:
    """results.json of one run, with its wall time and the highest memory of all its processes together."""
    if not (out / "cost.json").exists():
        write_json(out / "cost.json", cost(command(out, seed, quick)))
    return read_json(out / "results.json") | read_json(out / "cost.json")


def command(out: Path, seed: int, quick: bool) -> list[str]:
    """What a user types after `medi`."""
    return ["demo", "--out", str(out), "--seed", str(seed), *(["--quick"] if quick else [])]


def cost(arguments: list[str]) -> dict[str, float]:
    """What `medi ARGUMENTS` costs: minutes, and GiB of all its processes together."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "medi.cli", *arguments]) as running:
        peak = Peak(running.pid)
        if running.wait():
            raise SystemExit(f"medi {' '.join(arguments)} ended with {running.returncode}")
    return {"minutes": (time.perf_counter() - start) / 60, "gib": peak.stop() / 2**30}


def probes(seed: int, counts: tuple[int, int]) -> dict[str, float]:
    """Accuracy of linear probes for class and site on a crossed phantom, slides disjoint; patches per combination."""
    extractor = encoder("colour-texture")
    train, test = (phantom.fresh(phantom.COMBINATIONS, n, seed, f"probe {n}") for n in counts)
    x, y = (embed(cohort, extractor) for cohort in (train, test))
    accuracy = {}
    for column in ("class", "site"):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(x, train.table[column])
        accuracy[column] = float(np.mean(probe.predict(y) == test.table[column]))
    return accuracy


def figures(runs: list[dict[str, Any]], read: list[dict[str, float]], per_combination: int) -> Figures:
    unseen = [{**run["frechet"]["unseen"]} for run in runs]
    excess = [(d["medi"] - d["floor"]) / (d["cls"] - d["floor"]) for d in unseen]
    accuracy = [run["balanced_accuracy"]["unseen"] for run in runs]
    n, tested = len(runs), f"{per_combination * len(phantom.COMBINATIONS):,}"
    made = {
        "minutes": figure([run["minutes"] for run in runs], "min", "<= 10", n, "medi demo as a whole"),
        "memory": figure([run["gib"] for run in runs], "GiB", "<= 4", n, "all processes together"),
        "frechet_excess_ratio": figure(excess, "", "<= 0.10", n, "(MeDi - floor) / (CLS - floor), unseen"),
        "frechet_over_floor": figure([d["medi"] / d["floor"] for d in unseen], "", "<= 3", n, "MeDi / floor, unseen"),
        "gap_closed": figure([run["gap_closed"] for run in runs], "", ">= 0.85", n, "real only to oracle, unseen"),
        "oracle_minus_real": figure([a["oracle"] - a["real"] for a in accuracy], "", ">= 0.20", n, "unseen"),
        "probe_class": figure([r["class"] for r in read], "", ">= 0.90", n, f"4 classes, {tested} crossed patches"),
        "probe_site": figure([r["site"] for r in read], "", ">= 0.90", n, f"8 sites, {tested} crossed patches"),
    }
    for split in ("seen", "unseen"):
        for arm in ("real", "cls", "medi", "oracle"):
            values = [run["balanced_accuracy"][split][arm] for run in runs]
            made[f"balanced_accuracy_{split}_{arm}"] = figure(values, "", None, n, split)
        for arm in ("floor", "cls", "medi"):
            made[f"frechet_{split}_{arm}"] = figure([r["frechet"][split][arm] for r in runs], "", None, n, split)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--quick", action="store_true", help="one tiny run, of the first seed")
    options = parser.parse_args()
    seeds, counts = (options.seeds[:1], (2, 1)) if options.quick else (options.seeds, PROBED)
    runs = [demo(options.out / f"seed{seed}", seed, options.quick) for seed in seeds]
    report("study", figures(runs, [probes(seed, counts) for seed in seeds], counts[1]), ("torch", "diffusers", "numpy"))


if __name__ == "__main__":
    main()
