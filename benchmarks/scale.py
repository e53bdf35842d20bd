"""Seconds and memory of every stage of a study against the number of patches.

python benchmarks/scale.py [--patches 4000 16000 64000 200000 1600000] [--out runs/scale] [--report] [--quick]

The source is procedural: 40 tissues and 16 sites of `medi.cohort.phantom.families`, the share of each of the 640
combinations by chance (log-normal). A slide is one field of one tissue at one site, of 64 px, and its patient has no
other: 16 patches of 32 px are cut from it, which overlap. They are kept as PNG files with a table, once for the largest
number; a smaller study has the first rows of that table. 32 px keep this cheap: what pixels cost is measured elsewhere.

A study goes from the table to the report. A tiny network (fold 4, 16 channels) is trained on the same number of
draws whatever the number of patches, and makes the same images; features are those of `colour-texture`; the classifier
is the logistic one on the study's own training sets, without further baselines. So training and sampling say what
does not grow, and all other stages what does.

A study of a million patches and more ends with the search for copies, without distances and classifiers, which would
take hours.

Each number of patches is one process of its own, whose result lies in OUT/N.json; a finished one is read again, and one
that was stopped is begun anew, unless `--report` asks for what there is, the stages of a stopped study as well. Of a
stage there are its seconds by the clock, the CPU time of all processes, and their highest memory together (proportional
set size, looked at five times a second). The exponent is the slope of a line through the logarithms of CPU time and
number, from 16,000 patches on: other work on the machine changes the clock. Stages that take below a second at the
largest number have none. Audit, hold-out and plan are also done on a table of 1.6 million rows without images. The last
line is one JSON object.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from common import Peak, cpu_seconds, figure, report
from medi.cohort.audit import audit
from medi.cohort.holdout import design
from medi.cohort.phantom import families
from medi.cohort.phantom.factors import FIELD
from medi.cohort.plan import balance
from medi.cohort.rule import Rule
from medi.cohort.schema import Attribute, Schema
from medi.core.files import read_json, write_json
from medi.core.progress import Silent
from medi.core.seeds import generator
from medi.study.context import Study
from medi.study.results import conclude
from medi.study.settings import StudySettings
from medi.study.study import opened, road

SIZE, SIDE = 32, 64  # pixels of a patch, of a field
CORNERS = [(y, x) for y in (0, 10, 21, 32) for x in (0, 10, 21, 32)]  # of the patches of a slide
EACH = len(CORNERS)
LEVELS = (40, 16)  # tissues, sites
TABLE = 1_600_000  # rows of the table without images
MANY = 1_000_000  # patches of a study from which on it ends with the search for copies
LAST = "tables/memorisation.parquet"
JUDGING = ("tables/utility.parquet", "tables/control.parquet", "tables/fidelity.parquet")
FITTED = 16_000  # patches from which the exponent is fitted
LOOK = 0.2  # seconds between two looks at the memory
SHORT = 1.0  # seconds of CPU time below which a stage has no exponent
GIB = 2**30
REPORT = "report"

Spent = dict[str, float]  # seconds, cpu, gib


def shares(levels: tuple[int, int]) -> np.ndarray:
    """The share of every combination."""
    weights = np.exp(generator("scale", "weights").standard_normal(levels)).ravel()
    return weights / weights.sum()


def write_slides(folder: Path, levels: tuple[int, int], slides: range) -> list[dict[str, str]]:
    """Fields of slides, cut into patches; a row for each."""
    rows = []
    for number in slides:
        which = int(generator("scale", "slide", number).choice(levels[0] * levels[1], p=shares(levels)))
        tissue, site, name = which // levels[1], which % levels[1], f"slide{number:06d}"
        field = families.patch(0, tissue, site, name, name, SIDE)
        (folder / name).mkdir(parents=True)
        for i, (y, x) in enumerate(CORNERS):
            image = f"{name}/{i}.png"
            Image.fromarray(field[y : y + SIZE, x : x + SIZE]).save(folder / image, compress_level=1)
            rows.append({"image": image, "class": f"t{tissue:02d}", "site": f"s{site:02d}", "patient": name})
    return rows


def write_source(folder: Path, patches: int, levels: tuple[int, int], workers: int) -> None:
    """All images and the table, unless they are there."""
    if (folder / "all.csv").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    slides = patches // EACH
    parts = [range(start, min(start + 500, slides)) for start in range(0, slides, 500)]
    write = partial(write_slides, folder, levels)
    if workers == 1:
        found = [write(part) for part in parts]
    else:
        with ProcessPoolExecutor(workers) as pool:
            found = list(pool.map(write, parts))
    table = pd.DataFrame([row for rows in found for row in rows])
    table.assign(slide=table["patient"], mpp=FIELD / SIDE).to_csv(folder / "all.csv", index=False)


def settings_of(source: Path, images: int) -> StudySettings:
    """A study of the table; as many images are drawn in training, and few are sampled."""
    network = {"size": SIZE, "fold": 4, "channels": [16, 16], "layers": 1}
    training = {"images": images, "batch": 16, "learning_rate": 0.002, "warmup": 160, "save_every": images}
    evaluation = {"distance_images": 5, "arms": ["none"], "encoders": ["colour-texture"]}
    return StudySettings.model_validate(
        {
            "title": "Scale",
            "cohort": {"source": str(source), "size": SIZE, "read": {"label": "class", "attributes": ["site"]}},
            "holdout": {"rate": 0.2, "min_patients": 1, "test_seen": 0.1},
            "network": network,
            "training": training,
            "plan": {"to": 2, "minimum": 2},
            "sampling": {"steps": 4, "batch": 64},
            "evaluation": evaluation,
            "utility": {"recommend": ["none"]},
        }
    )


def measured(source: Path, folder: Path, images: int, kept: Path, judged: bool, ends: Sequence[str]) -> None:
    """A study, stage by stage; what each takes goes to `kept`. ends: what follows on the stages."""
    settings, found = settings_of(source, images), dict[str, Spent]()
    run = opened(settings, folder, Silent(), redo=False)
    study = Study(settings, run.folder, run.show)
    stages = [stage for stage in road(settings) if judged or stage.name not in JUDGING]
    works: dict[str, Callable[[], object]] = {stage.name: partial(run.do, stage, study) for stage in stages}
    for name, work in (works | dict.fromkeys(ends, partial(conclude, study))).items():
        spent(found, name, work)
        write_json(kept, found)


def in_one(work: Callable[..., None], *arguments: object, apart: bool) -> None:
    """apart: in a fresh process, whose memory nothing else has filled."""
    if not apart:
        work(*arguments)
        return
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(work, *arguments).result()


def study_of(patches: int, source: Path, out: Path, images: int, apart: bool) -> None:
    """Measure a study of so many patches, unless it is done. apart: in a process of its own."""
    kept, folder = out / f"{patches}.json", out / f"run-{patches}"
    many = patches >= MANY
    if kept.exists() and (LAST if many else REPORT) in read_json(kept):
        return
    table = source / f"{patches}.csv"
    rows = pd.read_csv(source / "all.csv", dtype=str, nrows=patches)
    if len(rows) < patches:
        raise SystemExit(f"{source} has {len(rows):,} patches, not {patches:,}: choose another --out")
    rows.to_csv(table, index=False)
    shutil.rmtree(folder, ignore_errors=True)
    ends = [REPORT] if apart and not many else []  # the report takes seconds
    in_one(measured, table, folder, images, kept, not many, ends, apart=apart)
    shutil.rmtree(folder)


def of_table(rows: int, levels: tuple[int, int], kept: Path) -> None:
    """Audit, hold-out and plan of a table without images."""
    slides, rng = rows // EACH, generator("scale", "table")
    classes, sites = (tuple(f"{letter}{i:02d}" for i in range(n)) for letter, n in zip("ts", levels))
    pairs = np.repeat(rng.choice(levels[0] * levels[1], slides, p=shares(levels)), EACH)
    slide = np.repeat([f"slide{i:06d}" for i in range(slides)], EACH)
    of_pairs = {"class": np.array(classes)[pairs // levels[1]], "site": np.array(sites)[pairs % levels[1]]}
    table = pd.DataFrame({"sample_id": slide, **of_pairs, "patient": slide, "slide": slide, "split": ""})
    table["sample_id"] += "-" + (table.index % EACH).astype(str)
    schema = Schema(Attribute("class", levels=classes), (Attribute("site", levels=sites),))
    rule = Rule(over=("class", "site"), rate=0.2, test_seen=0.1, min_patients=1)
    found = dict[str, Spent]()
    held = spent(found, "holdout", lambda: design(table, schema, rule, 0).apply(table))
    spent(found, "audit", lambda: audit(table, schema))
    spent(found, "plan", lambda: balance(held, schema, ("class", "site"), to=200))
    write_json(kept, found)


def spent(found: dict[str, Spent], name: str, work: Callable[[], Any]) -> Any:
    """Do a stage, and keep what it takes."""
    clock, cpu, peak = time.perf_counter(), cpu_seconds(), Peak(os.getpid(), LOOK)
    result = work()
    found[name] = {"seconds": time.perf_counter() - clock, "cpu": cpu_seconds() - cpu, "gib": peak.stop() / GIB}
    print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return result


def exponent(numbers: list[int], seconds: list[float]) -> float:
    """The slope of log seconds against log number; NaN of a short stage."""
    fitted = [i for i, n in enumerate(numbers) if n >= FITTED] or list(range(len(numbers)))
    if seconds[-1] < SHORT or len(fitted) < 2:
        return float("nan")
    x, y = (np.log([values[i] for i in fitted]) for values in (numbers, seconds))
    return float(np.polyfit(x, y, 1)[0])


def figures(found: dict[int, dict[str, Spent]]) -> dict[str, dict[str, Any]]:
    """Of every stage its exponent, and its CPU time and memory at the largest number of patches that it was done at."""
    table = {}
    for stage in max(found.values(), key=len):
        numbers = sorted(n for n in found if stage in found[n])
        took = {kind: [found[n][stage][kind] for n in numbers] for kind in ("cpu", "seconds", "gib")}
        name = stage.removeprefix("tables/").removesuffix(".parquet").replace("/", "_").replace(".", "_")
        listed = {kind: ", ".join(f"{n:,}: {v:.2f}" for n, v in zip(numbers, took[kind])) for kind in took}
        if not np.isnan(slope := exponent(numbers, took["cpu"])):
            what = f"CPU time, from {FITTED:,} to {numbers[-1]:,} patches"
            table[f"{name}_exponent"] = figure([slope], "exponent", "<= 1.1", numbers[-1], what)
        against = f"by the number of patches: {listed['cpu']}; by the clock: {listed['seconds']}"
        table[f"{name}_cpu"] = figure([took["cpu"][-1]], "s of CPU", None, numbers[-1], against)
        table[f"{name}_gib"] = figure([took["gib"][-1]], "GiB", "<= 4", numbers[-1], listed["gib"])
    return table


def table_figures(found: dict[str, Spent], rows: int) -> dict[str, dict[str, Any]]:
    """Of every stage on a table alone its CPU time; and the highest memory."""
    what = f"{rows:,} rows, no images; by the clock "
    table = {
        f"table_{name}_cpu": figure([took["cpu"]], "s of CPU", None, rows, f"{what}{took['seconds']:.1f} s")
        for name, took in found.items()
    }
    return table | {"table_gib": figure([max(took["gib"] for took in found.values())], "GiB", "<= 4", rows, what[:-14])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="+", default=[4_000, 16_000, 64_000, 200_000])
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--report", action="store_true", help="measure nothing; report what --out holds")
    parser.add_argument("--quick", action="store_true", help="one tiny study in this process, up to its tables")
    asked = parser.parse_args()
    numbers = [128] if asked.quick else sorted(asked.patches)
    levels, images, workers = ((2, 2), 32, 1) if asked.quick else (LEVELS, 3_200, os.cpu_count() or 1)
    source, out = (asked.out / "source").resolve(), asked.out.resolve()
    rows = 1_600 if asked.quick else TABLE
    if not asked.report:
        write_source(source, max(numbers), levels, workers)
        for patches in numbers:
            study_of(patches, source, out, images, apart=not asked.quick)
        in_one(of_table, rows, levels, out / "table.json", apart=not asked.quick)
    kept = {n: out / f"{n}.json" for n in numbers}
    found = figures({n: read_json(path) for n, path in kept.items() if path.exists()})
    found |= table_figures(read_json(out / "table.json"), rows)
    report("scale", found, ["numpy", "pandas", "torch", "scikit-learn"])


if __name__ == "__main__":
    main()
