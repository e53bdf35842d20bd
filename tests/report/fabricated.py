"""A run folder as a study leaves it, with small seeded numbers, and made worse on demand."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.files import read_table, write_json, write_table
from medi.core.seeds import generator
from medi.core.tables import upgraded

CLASSES = ("COAD", "LUAD", "LUSC", "UCEC")
CHEAP = ("class_weights", "combination_weights", "resampled", "group_dro", "coral", "mixup", "hed_jitter")
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
    write_table(run / "tables" / "utility.parquet", _utility(classes, sites, held))
    _sheet(classes, sites, size).save(run / "sheet")
    return run


def write_more(run: Path, classes: tuple[str, ...] = CLASSES, sites: tuple[str, ...] = SITES) -> Path:
    """What later stages add to such a run: other measures, control, copies, cheap arms, curves."""
    held = [(classes[i], sites[j]) for i, j in HELD_OUT if i < len(classes) and j < len(sites)]
    tables = run / "tables"
    for name, more in (("fidelity", _beside(classes, sites, held)), ("utility", _rivals(sites))):
        write_table(tables / f"{name}.parquet", pd.concat([read_table(tables / f"{name}.parquet"), more]))
    write_table(tables / "control.parquet", _control())
    write_table(tables / "confusion.parquet", _confusion({"class": classes, "site": sites}))
    write_table(tables / "memorisation.parquet", _copying())
    write_table(tables / "suspects.parquet", _suspects(classes, sites))
    write_table(tables / "curves.parquet", _curves())
    _pairs(classes, sites).save(run / "suspects")
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
    return upgraded(pd.DataFrame(rows, columns=columns).assign(encoder="colour-texture"))


UTILITY = ["metric", "arm", "split", "scope", "class", "site", "value", "low", "high", "n_real", "n_synthetic"]


def _utility(classes: tuple[str, ...], sites: tuple[str, ...], held: list[tuple[str, str]]) -> pd.DataFrame:
    table = {"seen": (0.913, 0.881, 0.902, 0.921), "unseen": (0.541, 0.442, 0.837, 0.862)}
    tests = {"seen": (421, 0, 22, 13), "unseen": (409, 0, 21, 12)}
    rows = []
    for split, values in table.items():
        for arm, value in zip(("real", "cls", "medi", "oracle"), values):
            train = 4511 if arm == "real" else 9216
            place = (value, value - 0.05, value + 0.04, *tests[split], train, "")
            rows.append(("balanced_accuracy", arm, split, "all", "", "", *place))
            for i, name in enumerate(classes):
                level = value + 0.03 * (i - 1.5)
                rows.append(("recall", arm, split, "class", name, "", level, np.nan, np.nan, 101, 0, 6, 4, train, ""))
            for i, site in enumerate(sites):
                place = (np.nan, np.nan, np.nan) if i == 2 else (value - 0.02 * i, value - 0.1 - 0.02 * i, value + 0.05)
                why = "1 class (LUSC): no balanced accuracy" if i == 2 else ""
                rows.append(("balanced_accuracy", arm, split, "site", "", site, *place, 50, 0, 6, 4, train, why))
            for name, site in product(classes, sites):
                if ((name, site) in held) == (split == "unseen"):
                    place = (name, site, value, np.nan, np.nan, 13, 0, 3, 2, train, "")
                    rows.append(("recall", arm, split, "combination", *place))
    sizes = (*tests["unseen"], 9216, "")
    for other, value in (("cls", 0.395), ("real", 0.296)):
        place = (f"medi - {other}", "unseen", "all", "", "", value, value - 0.1, value + 0.1, *sizes)
        rows.append(("balanced_accuracy_difference", *place))
    rows += _primary()
    for arm, value in (("cls", -0.31), ("medi", 0.922)):
        rows.append(("gap_closed", arm, "unseen", "all", "", "", value, 0.78, 1.06, *sizes))
    columns = [*UTILITY, "n_slides", "n_patients", "n_train", "reason"]
    return upgraded(pd.DataFrame(rows, columns=columns).assign(panel="inductive", p_value=np.nan, p_adjusted=np.nan))


def _primary() -> list[tuple]:
    """Mean recall over all, unseen and seen combinations, chance, and the paired differences behind a verdict."""
    values = {"real": 0.68, "cls": 0.61, "medi": 0.87, "pure_noise": 0.66, "oracle": 0.9}
    sizes = (830, 512, 43, 25, 4511, "")
    rows = []
    for split, shift in (("all", 0.0), ("unseen", -0.1), ("seen", 0.05)):
        rows.append(("chance", "chance", split, "all", "", "", 0.25, np.nan, np.nan, *sizes))
        for arm, value in values.items():
            place = (arm, split, "all", "", "")
            rows.append(("mean_recall", *place, value + shift, value + shift - 0.04, value + shift + 0.03, *sizes))
            rows.append(("worst_five", *place, value + shift - 0.4, np.nan, np.nan, *sizes))
    for other in ("real", "pure_noise", "cls", "oracle"):
        gap = values["medi"] - values[other]
        place = (f"medi - {other}", "all", "all", "", "")
        rows.append(("mean_recall_difference", *place, gap, gap - 0.03, gap + 0.03, *sizes))
    return rows


def _rivals(sites: tuple[str, ...]) -> pd.DataFrame:
    """Arms that cost no diffusion model, one that sees test images, and measures of every arm."""
    rng, rows = generator("rivals"), []
    for arm, split in product((*CHEAP, "site_centred"), ("seen", "unseen")):
        value = rng.uniform(0.5, 0.9) + 0.05 * (arm == "site_centred")
        rows.append(("balanced_accuracy", arm, split, "all", "", "", value, value - 0.06, value + 0.05, "", np.nan))
        place = (f"medi - {arm}", split, "all", "", "", 0.837 - value, 0.77 - value, 0.9 - value, "", 0.04)
        rows.append(("balanced_accuracy_difference", *place))
    arms = ("real", "cls", "medi", "oracle", *CHEAP)
    measured = ("auroc", "mcc", "calibration_error", "worst_group", "site_readability")
    gaps = ("equalised_odds_gap", "demographic_parity_gap")
    for metric, arm, split in product((*measured, *gaps), arms, ("seen", "unseen")):
        value, scope = rng.uniform(0.1, 0.8), "site" if metric in gaps else "all"
        rows.append((metric, arm, split, scope, "", "", value, value - 0.05, value + 0.05, "", np.nan))
    columns = ["metric", "arm", "split", "scope", "class", "site", "value", "low", "high", "reason", "p_adjusted"]
    sizes = {"n_real": 409, "n_synthetic": 0, "n_slides": 21, "n_patients": 12, "n_train": 4511, "p_value": np.nan}
    table = pd.DataFrame(rows, columns=columns).assign(**sizes)
    return upgraded(table).assign(panel=np.where(table["arm"].str.contains("centred"), "transductive", "inductive"))


def _beside(classes: tuple[str, ...], sites: tuple[str, ...], held: list[tuple[str, str]]) -> pd.DataFrame:
    """Kernel distances and neighbourhoods per combination, their means, and differences with p-values."""
    typical = {"mmd2": (0.01, 0.2, 0.03), "kid": (0.02, 1.4, 0.2), "precision": (0.9, 0.5, 0.8)}
    typical |= {"recall": (0.9, 0.3, 0.7), "density": (1.0, 0.4, 0.8), "coverage": (0.95, 0.3, 0.8)}
    rows = []
    for metric, values in typical.items():
        for arm, value in zip(("floor", "cls", "medi"), values):
            for name, site in product(classes, sites):
                split = "unseen" if (name, site) in held else "seen"
                rows.append((metric, arm, "combination", name, site, split, value, np.nan, np.nan, ""))
            for split in ("seen", "unseen"):
                rows.append((metric, arm, "combination_mean", "", "", split, value, value * 0.9, value * 1.1, ""))
        place = (f"{metric}_difference", "cls - medi", "combination_mean", "", "", "unseen")
        rows.append((*place, values[1] - values[2], np.nan, np.nan, ""))
    for site, (arm, value) in product(sites, (("floor", 2.0), ("cls", 70.0), ("medi", 8.0))):
        rows.append(("frechet", arm, "site", "", site, "", value, np.nan, np.nan, ""))
    columns = ["metric", "arm", "scope", "class", "site", "split", "value", "low", "high", "reason"]
    sizes = {"n_real": 64, "n_synthetic": 64, "encoder": "colour-texture", "p_value": 0.01, "p_adjusted": 0.02}
    return upgraded(pd.DataFrame(rows, columns=columns).assign(**sizes))


def _control() -> pd.DataFrame:
    rows = []
    levels = {"real": (0.93, 0.97), "cls": (0.88, 0.14), "medi": (0.9, 0.95)}
    for (arm, values), split in product(levels.items(), ("seen", "unseen")):
        for attribute, value in zip(("class", "site"), values):
            rows.append(("as_asked", arm, attribute, split, value, value - 0.03, value + 0.02))
    rows.append(("class_kept", "medi", "site", "", 0.87, 0.84, 0.9))
    rows += [
        ("detectability", arm, "", "", value, value - 0.02, value + 0.02)
        for arm, value in (("cls", 1.0), ("medi", 0.9))
    ]
    table = pd.DataFrame(rows, columns=["metric", "arm", "attribute", "split", "value", "low", "high"])
    sizes = {"encoder": "colour-texture", "scope": "all", "class": "", "site": "", "n_real": 800, "n_synthetic": 960}
    return upgraded(table.assign(**sizes, reason=""))


def _confusion(levels: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    rows = [
        (arm, attribute, asked, seen, 100 if asked == seen else 3, right if asked == seen else 0.02)
        for attribute, names in levels.items()
        for arm, right in (("real", 0.95), ("cls", 0.4), ("medi", 0.9))
        for asked, seen in product(names, names)
    ]
    return pd.DataFrame(rows, columns=["arm", "attribute", "requested", "recognised", "n", "share"])


def _copying() -> pd.DataFrame:
    rates = {
        ("copy_rate", "real"): 0.008,
        ("slide_leak", "reserve"): 0.93,
        ("copy_rate", "cls"): 0.011,
        ("copy_rate", "medi"): 0.017,
        ("slide_leak", "cls"): 0.02,
        ("slide_leak", "medi"): 0.06,
    }
    rows = [(metric, arm, value, value * 0.5, value * 1.7) for (metric, arm), value in rates.items()]
    table = pd.DataFrame(rows, columns=["metric", "arm", "value", "low", "high"])
    return table.assign(n_real=300, n_synthetic=960, reason="")


def _suspects(classes: tuple[str, ...], sites: tuple[str, ...], count: int = 6) -> pd.DataFrame:
    ranks = np.arange(1, count + 1)
    labels = {"class": classes[0], "site": sites[0], "neighbour": [f"train{i}" for i in ranks]}
    table = pd.DataFrame({"rank": ranks, "arm": ["medi", "cls"] * (count // 2), "sample_id": [f"s{i}" for i in ranks]})
    return table.assign(**labels, neighbour_slide="slide 3", distance=0.1 * ranks, ratio=0.2 + 0.05 * ranks)


def _pairs(classes: tuple[str, ...], sites: tuple[str, ...], size: int = 8, count: int = 6) -> Cohort:
    rows = [
        (str(i), ("medi", "cls")[i % 2 == 0], role) for i in range(1, count + 1) for role in ("synthetic", "training")
    ]
    table = pd.DataFrame(rows, columns=["rank", "arm", "role"])
    labels = {"class": classes[0], "site": sites[0], "patient": "", "slide": ""}
    table = table.assign(sample_id=[f"pair{i}" for i in range(len(rows))], **labels)
    images = generator("pairs").integers(0, 256, (len(rows), size, size, 3)).astype(np.uint8)
    schema = Schema(
        Attribute("class", levels=tuple(sorted(classes))), (Attribute("site", levels=tuple(sorted(sites))),)
    )
    return Cohort(table, schema, Pixels.of(images))


def _curves() -> pd.DataFrame:
    rng, rows = generator("curves"), []
    varied = {"n_train": (250, 500, 1000, 2000, 4000), "ratio": (0.0, 0.5, 1.0, 2.0)}
    for (name, values), arm, split, seed in product(
        varied.items(), ("real", "cls", "medi", "mixup"), ("seen", "unseen"), (0, 1, 2)
    ):
        for i, x in enumerate(values):
            y = 0.4 + 0.08 * i + rng.normal(0, 0.02) + 0.1 * (arm == "medi")
            rows.append((arm, split, "balanced_accuracy", name, float(x), seed, y, y - 0.05, y + 0.05))
    return pd.DataFrame(rows, columns=["arm", "split", "metric", "x_name", "x", "seed", "value", "low", "high"])


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
