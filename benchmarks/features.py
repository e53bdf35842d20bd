"""What it costs to audit, split and score features of another program: 100,000 x 1,024 numbers in 500 HDF5 files.

python benchmarks/features.py [--quick] [--out FOLDER]; the last line is one JSON object. The three verbs run one after
another, each in a process of its own with one thread; with --quick all in this one.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pandas as pd

from common import figure, report
from medi.cli.main import app
from medi.core import seeds

CLASSES, SITES = ("adeno", "squamous", "small", "large"), tuple(f"site{i}" for i in range(8))
TARGETS = {"seconds": "<= 900", "peak": "<= 4"}


def write(folder: Path, slides: int, patches: int, width: int) -> None:
    """A file per slide as TRIDENT writes it, and a table with a row per slide; class, site and slide show in all."""
    g = seeds.generator("benchmark features", slides)
    ways = {name: g.normal(size=(count, width)) for name, count in (("class", len(CLASSES)), ("site", len(SITES)))}
    rows = []
    (folder / "features").mkdir(parents=True)
    for i in range(slides):
        label, site = int(g.integers(len(CLASSES))), int(g.integers(len(SITES)))
        own = 0.1 * ways["class"][label] + 0.3 * ways["site"][site] + 0.3 * g.normal(size=width)
        with h5py.File(folder / "features" / f"slide{i}.h5", "w") as file:
            file["features"] = (own + g.normal(size=(patches, width))).astype(np.float32)
            file["coords"] = np.stack([np.arange(patches) * 256, np.zeros(patches, dtype=int)], axis=1)
            file["features"].attrs["encoder"] = "made up"
        rows.append([f"slide{i}", f"patient{i // 2 if i % 4 < 2 else i}", CLASSES[label], SITES[site]])
    pd.DataFrame(rows, columns=["slide", "patient", "diagnosis", "site"]).to_csv(folder / "slides.csv", index=False)


def verb(folder: Path, here: bool, *words: str) -> tuple[float, float]:
    """Seconds and peak memory in GiB of one command; `here`: in this process, which may have had a higher peak."""
    start = time.perf_counter()
    if here:
        with chdir(folder):
            app(words, standalone_mode=False)
        return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    command = [sys.executable, "-m", "medi.cli", *words]
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"medi {' '.join(words)} failed")
    return time.perf_counter() - start, used.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 slides of 10 patches, 16 numbers each")
    parser.add_argument("--out", type=Path, help="keep the files here; by default they go")
    asked = parser.parse_args()
    slides, patches, width = (40, 10, 16) if asked.quick else (500, 200, 1024)
    with TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch)
        if not (folder / "slides.csv").exists():
            write(folder, slides, patches, width)
        roles = ("--label", "diagnosis", "--attributes", "site")
        steps = {
            "audit": ("audit", "slides.csv", "--features", "features", *roles, "--out", "audit"),
            "holdout": ("holdout", "audit", "--over", "class,site", "--rate", "0.2", "--out", "held"),
            "utility": ("utility", "held", "--out", "utility"),
        }
        found = {name: verb(folder, asked.quick, *words) for name, words in steps.items()}
    n, against = slides * patches, f"{slides} files, {width} numbers a row, one thread"
    figures = {f"{name}_seconds": figure([s], "s", None, n, against) for name, (s, _) in found.items()}
    figures |= {f"{name}_peak": figure([peak], "GiB", None, n, against) for name, (_, peak) in found.items()}
    figures["seconds"] = figure([sum(s for s, _ in found.values())], "s", TARGETS["seconds"], n, "all three verbs")
    figures["peak"] = figure(
        [max(peak for _, peak in found.values())], "GiB", TARGETS["peak"], n, "the largest process"
    )
    report("features", figures, ("numpy", "h5py", "pandas", "scikit-learn"))


if __name__ == "__main__":
    main()
