"""A run folder as a study leaves it, with small seeded numbers, and made worse on demand."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.files import write_json, write_table
from medi.seeds import generator

CLASSES = ("COAD", "LUAD", "LUSC", "UCEC")
SITES = ("Asterand", "Christiana", "Duke", "Indivumed", "Mayo", "MSKCC", "Pittsburgh", "Roswell")
HELD_OUT = ((0, 1), (0, 5), (0, 6), (1, 0), (1, 4), (2, 2), (2, 7), (3, 3), (3, 5), (3, 6))
Fabricate = Callable[..., Path]


def write_run(
    run: Path, classes: tuple[str, ...] = CLASSES, sites: tuple[str, ...] = SITES, medi: float = 1.0, size: int = 8
) -> Path:
    """Every file of a finished run; `medi` scales MeDi's distances."""
    held = [(classes[i], sites[j]) for i, j in HELD_OUT if i < len(classes) and j < len(sites)]
    fidelity = _fidelity(classes, sites, held, medi)
    write_json(run / "results.json", _results(fidelity))
    write_json(run / "audit" / "audit.json", _audit(classes, sites))
    write_table(run / "audit" / "counts.parquet", _counts(classes, sites, held))
    write_json(run / "holdout" / "certificate.json", _certificate(held))
    write_table(run / "tables" / "training.parquet", _training())
    write_table(run / "tables" / "fidelity.parquet", fidelity)
    write_table(run / "tables" / "utility.parquet", _utility(classes))
    _sheet(classes, sites, size).save(run / "sheet")
    return run


def _results(fidelity: pd.DataFrame) -> dict:
    cells = fidelity[(fidelity["scope"] == "combination") & (fidelity["metric"] == "frechet")]
    means = cells.groupby(["split", "arm"])["value"].mean()
    return {
        "format_version": 1,
        "title": "Demo: a procedural cohort",
        "seed": 7,
        "balanced_accuracy": {
            "seen": {"real": 0.913, "cls": 0.881, "medi": 0.902, "oracle": 0.921},
            "unseen": {"real": 0.541, "cls": 0.442, "medi": 0.837, "oracle": 0.862},
        },
        "frechet": {seen: means[seen].to_dict() for seen in ("seen", "unseen")},
        "gap_closed": 0.922,
        "seconds": {"cohort": 11.2, "audit": 0.3, "train_cls": 171.4, "train_medi": 173.9, "sample": 88.0},
        "versions": {"medi": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        "machine": {"system": "Linux", "cores": 2, "device": "cpu"},
        "settings": {"attribute": "site", "training": {"images": 40960, "batch": 16}, "sampling": {"steps": 16}},
        "phantom": "9f31c0d2aa417be5",
        "encoder": {"name": "colour-texture", "hash": "51b07c3e9d20f486", "dimension": 53},
    }


def _audit(classes: tuple[str, ...], sites: tuple[str, ...]) -> dict:
    names = ["attribute", "unit", "n", "levels", "cramers_v", "cramers_v_corrected", "nmi", "determination", "reason"]
    rows = [
        ("site", "patch", 6103, len(sites), 0.61, 0.603, 0.31, 0.33, ""),
        ("scanner", "patch", 5005, 1, None, None, None, None, "only one scanner occurs"),
    ]
    return {
        "format_version": 1,
        "size": {"slides": 241, "patients": 127, "patches": 6103, "unlabelled": 0, "classes": len(classes)},
        "alarms": [f"site {sites[0]} holds a single class ({classes[0]}): a classifier can read the class from it"],
        "notes": ["scanner: only one scanner occurs, so that it says nothing about the class"],
        "association": [dict(zip(names, row)) for row in rows],
        "ceiling": [{"attribute": "site", "balanced_accuracy": 0.63, "chance": 1 / len(classes), "reason": ""}],
        "missingness": [{"attribute": "scanner", "class": classes[0], "n": 1500, "missing": 270, "share": 0.18}],
        "continuous": [],
        "pairs": [],
    }


def _counts(classes: tuple[str, ...], sites: tuple[str, ...], held: list[tuple[str, str]]) -> pd.DataFrame:
    """As the audit writes them: of the whole cohort, before the hold-out, combinations that occur."""
    rng = generator("counts")
    rows = []
    for name, site in product(classes, sites):
        n = int(rng.gamma(0.7, 300)) + 20 * ((name, site) in held)
        rows.append(("class", name, "site", site, n, n // 25 + 1, n // 50 + 1))
    columns = ["by", "group", "attribute", "level", "patches", "slides", "patients"]
    table = pd.DataFrame(rows, columns=columns)
    return table[table["patches"] > 0]


def _certificate(held: list[tuple[str, str]]) -> dict:
    counts = {
        "train": (4511, 180, 92),
        "validation": (402, 17, 9),
        "test_seen": (421, 22, 13),
        "test_unseen": (409, 21, 12),
    }
    by_unit = {
        unit: {split: n[i] for split, n in counts.items()} for i, unit in enumerate(("rows", "slides", "patients"))
    }
    return {
        "format_version": 1,
        "rule": {"kind": "random", "rate": 0.3},
        "seed": 7,
        "columns": ["class", "site"],
        "combinations": 32,
        "held_out": [list(cell) for cell in held],
        "emptied": [],
        **by_unit,
        "ids": {split: f"0a1b2c3d{i}" for i, split in enumerate(counts)},
    }


def _training() -> pd.DataFrame:
    rng = generator("training")
    images = np.arange(1, 61) * 683
    rows = [
        (model, n, end + 0.5 / (1 + n / 2500) + rng.normal(0, 0.006), end + 0.02 if n % 4098 == 0 else np.nan, 238.0)
        for model, end in (("cls", 0.21), ("medi", 0.17))
        for n in images
    ]
    return pd.DataFrame(rows, columns=["model", "images", "loss", "validation_loss", "images_per_second"])


def _fidelity(
    classes: tuple[str, ...], sites: tuple[str, ...], held: list[tuple[str, str]], medi: float
) -> pd.DataFrame:
    rng = generator("fidelity")
    typical = {"floor": 3.0, "cls": 80.0, "medi": 9.0 * medi}
    rows = []
    for name in classes:
        for arm, level in typical.items():
            value = level * 0.6 * rng.uniform(0.7, 1.3)
            rows.append(("frechet", arm, "class", name, "", "", value, np.nan, np.nan, 611, 611, ""))
        for site in sites:
            seen = "unseen" if (name, site) in held else "seen"
            cell = {arm: level * rng.lognormal(0, 0.4) for arm, level in typical.items()}
            for arm, value in cell.items():
                rows.append(("frechet", arm, "combination", name, site, seen, value, np.nan, np.nan, 64, 64, ""))
            gap = cell["cls"] - cell["medi"]
            rows.append(
                ("frechet_difference", "cls - medi", "combination", name, site, seen, gap, gap - 9, gap + 9, 64, 64, "")
            )
    for seen in ("seen", "unseen"):
        rows.append(
            ("frechet_difference", "cls - medi", "combination_mean", "", "", seen, 70.0, 60.0, 80.0, 640, 640, "")
        )
    columns = [
        "metric",
        "arm",
        "scope",
        "class",
        "site",
        "split",
        "value",
        "low",
        "high",
        "n_real",
        "n_synthetic",
        "reason",
    ]
    return pd.DataFrame(rows, columns=columns).assign(encoder="colour-texture")


def _utility(classes: tuple[str, ...]) -> pd.DataFrame:
    table = {"seen": (0.913, 0.881, 0.902, 0.921), "unseen": (0.541, 0.442, 0.837, 0.862)}
    tests = {"seen": (421, 22, 13), "unseen": (409, 21, 12)}
    rows = []
    for split, values in table.items():
        for arm, value in zip(("real", "cls", "medi", "oracle"), values):
            train = 4511 if arm == "real" else 9216
            rows.append(
                ("balanced_accuracy", arm, split, "", "", value, value - 0.05, value + 0.04, *tests[split], train, "")
            )
            for i, name in enumerate(classes):
                rows.append(
                    ("recall", arm, split, name, "", value + 0.03 * (i - 1.5), np.nan, np.nan, 101, 6, 4, train, "")
                )
    sizes = (*tests["unseen"], 9216, "")
    for other, value in (("cls", 0.395), ("real", 0.296)):
        name = f"medi - {other}"
        rows.append(("balanced_accuracy_difference", name, "unseen", "", "", value, value - 0.1, value + 0.1, *sizes))
    for arm, value in (("cls", -0.31), ("medi", 0.922)):
        rows.append(("gap_closed", arm, "unseen", "", "", value, 0.78, 1.06, *sizes))
    columns = ["metric", "arm", "split", "class", "site", "value", "low", "high", "n_real", "n_slides", "n_patients"]
    return pd.DataFrame(rows, columns=[*columns, "n_train", "reason"])


def _sheet(classes: tuple[str, ...], sites: tuple[str, ...], size: int, each: int = 2) -> Cohort:
    """Patches of one flat colour per site (real, MeDi) or per class (CLS), with noise."""
    cells = list(product(classes, sites, ("real", "medi", "cls"), range(each)))
    rng = generator("sheet")
    colors = {name: rng.integers(120, 240, 3) for name in (*classes, *sites)}
    base = np.array([colors[name if source == "cls" else site] for name, site, source, _ in cells])
    images = base[:, None, None, :] + rng.normal(0, 14, (len(cells), size, size, 3))
    table = pd.DataFrame(cells, columns=["class", "site", "source", "i"]).drop(columns="i")
    table = table.assign(sample_id=[f"patch{i}" for i in range(len(cells))], patient="", slide="")
    schema = Schema(
        Attribute("class", levels=tuple(sorted(classes))), (Attribute("site", levels=tuple(sorted(sites))),)
    )
    return Cohort(table, schema, Pixels.of(np.clip(images, 0, 255).astype(np.uint8)))
