"""What it costs to know a cohort: audit and hold-out of 1.6 million rows x 6 attributes.

python benchmarks/cohorts.py [--quick]; the last line is one JSON object.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from medi.cohort.audit import audit
from medi.cohort.certificate import verify
from medi.cohort.holdout import Holdout, design
from medi.cohort.schema import Schema
from medi.core import seeds

SLIDES, PATIENTS = 8726, 7168  # TCGA's diagnostic slides
LEVELS = {"class": 32, "site": 194, "race": 6, "gender": 2, "scanner": 5, "stage": 12, "age": 80}


def cohort(rows: int, patch_level: bool) -> pd.DataFrame:
    """TCGA-UT's size: attributes belong to patients, or, as the hard case, differ from patch to patch."""
    g = seeds.generator("benchmark cohort", rows)
    owner = g.integers(0, PATIENTS, SLIDES)
    slide = np.sort(g.integers(0, SLIDES, rows))
    codes = {
        name: g.integers(0, k, rows) if patch_level else g.integers(0, k, PATIENTS)[owner[slide]]
        for name, k in LEVELS.items()
    }
    ids = {"slide": (SLIDES, slide), "patient": (PATIENTS, owner[slide]), "sample_id": (rows, np.arange(rows))}
    columns = {name: _text(f"{name}-", k, code) for name, (k, code) in ids.items()}
    return pd.DataFrame(columns | {name: _text("", LEVELS[name], code) for name, code in codes.items()})


def _text(prefix: str, levels: int, codes: np.ndarray) -> pd.Series:
    return pd.Series(np.array([f"{prefix}{i}" for i in range(levels)], dtype=object)[codes], dtype="str")


def timed(work: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return seconds, result


def peak() -> float:
    """GiB of this process at its highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def figure(values: Iterable[float], unit: str, target: str | None, n: int, against: str) -> dict[str, Any]:
    found = np.array(list(values))
    spread = [round(float(found.min()), 3), round(float(found.max()), 3)]
    head = {"value": round(float(np.median(found)), 3), "target": target, "unit": unit}
    return head | {"n": n, "spread": spread, "against": against}


def measure(rows: int, repeats: int) -> dict[str, dict[str, Any]]:
    table = cohort(rows, patch_level=False)
    schema = Schema.infer(table, [name for name in LEVELS if name != "class"], continuous=["age"])
    plain, hard = "attributes of patients", "attributes that differ from patch to patch"
    seconds, _ = timed(lambda: audit(table, schema), repeats)
    memory = peak()
    design_seconds, found = timed(lambda: design(table, schema), repeats)
    verify_seconds = timed(lambda: _verified(table, found), repeats)[0]
    design_memory = peak()
    patch_table = cohort(rows, patch_level=True)
    patch_seconds, _ = timed(lambda: audit(patch_table, schema), repeats)
    return {
        "audit_seconds": figure(seconds, "s", "<= 3", rows, plain),
        "audit_peak": figure([memory], "GiB", "<= 1", rows, "the whole process with the table"),
        "holdout_design_seconds": figure(design_seconds, "s", "<= 10", rows, plain),
        "holdout_verify_seconds": figure(verify_seconds, "s", None, rows, plain),
        "holdout_peak": figure([design_memory], "GiB", None, rows, "the whole process with the table"),
        "audit_patch_level_seconds": figure(patch_seconds, "s", None, rows, hard),
    }


def _verified(table: pd.DataFrame, found: Holdout) -> None:
    problems = verify(found.apply(table), found.certificate)
    if problems:
        raise SystemExit(f"the certificate does not hold: {problems}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5,000 rows, once")
    quick = parser.parse_args().quick
    figures = measure(5_000 if quick else 1_600_000, 1 if quick else 3)
    for name, found in figures.items():
        print(f"{name}: {found['value']} {found['unit']} (target {found['target']}, range {found['spread']})")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "pandas", "pyarrow")}
    print(json.dumps({"topic": "cohorts", "machine": machine, "versions": versions, "figures": figures}))


if __name__ == "__main__":
    main()
