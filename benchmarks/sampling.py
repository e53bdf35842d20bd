"""Sampling: a plan's combinations batched together against a loop over them, and few steps against DDIM-100.

python benchmarks/sampling.py [--run RUN] [--threads 1 2] [--combinations 200] [--n 100] [--cells 32] [--quick]

The speed of two networks with random weights: that of `medi demo --quick` ("small") and that of `medi demo` (on a
tenth of the plan). One process per combination is measured on three processes and multiplied: the figure says so.
--run is the folder of a finished `medi demo`: its MeDi model is sampled with DDIM-100 and with DPM-Solver++(2M), and
mean Frechet distances per combination are compared at equal n. The last line is one JSON object.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from common import figure, report
from medi import seeds
from medi.cohort.plan import images
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.diffusion.checkpoint import load_model, save_model
from medi.diffusion.denoiser import Denoiser, NetworkSettings
from medi.diffusion.generation import generate
from medi.diffusion.sampling import SamplerSettings, sample_images
from medi.evaluation.encoders import embed, encoder
from medi.evaluation.frechet import frechet_distance
from medi.settings import embedded_study

Cell = tuple[str, str]
CLASSES, PER_COMBINATION, STEPS, PROCESSES, ROUNDS, DRAWS = 10, 32, 16, 3, 2, 10
SAMPLERS = {
    "ddim_100": SamplerSettings(steps=100, solver="ddim_clipped", schedule="leading"),
    "dpm_16": SamplerSettings(steps=16),
    "dpm_20": SamplerSettings(steps=20),
}


def plan(combinations: int) -> pd.DataFrame:
    """A row per image: 32 of each of so many class x site combinations."""
    cells = [(f"c{i % CLASSES}", f"s{i // CLASSES}", PER_COMBINATION) for i in range(combinations)]
    return images(pd.DataFrame(cells, columns=["class", "site", "n"]))


def random_model(folder: Path, settings: NetworkSettings, combinations: int) -> Path:
    sites = tuple(f"s{i}" for i in range(-(-combinations // CLASSES)))
    schema = Schema(
        Attribute("class", levels=tuple(f"c{i}" for i in range(CLASSES))), (Attribute("site", levels=sites),)
    )
    torch.manual_seed(0)
    return save_model(folder / "model.safetensors", Denoiser(settings, schema), {})


def seconds_together(model: Path, rows: pd.DataFrame, folder: Path) -> float:
    """`generate` as a whole: the model loaded, images written, joined and hashed."""
    start = time.perf_counter()
    generate(model, rows, folder, 0, SamplerSettings(steps=STEPS))
    return time.perf_counter() - start


def seconds_loop(model: Path, rows: pd.DataFrame) -> float:
    """The same sampler on one combination after another, 32 images at once, kept in memory."""
    start = time.perf_counter()
    denoiser, _ = load_model(model)
    settings = SamplerSettings(steps=STEPS, batch=PER_COMBINATION)
    for _, part in rows.groupby(["class", "site"], sort=False):
        sample_images(denoiser, part, 0, settings)
    return time.perf_counter() - start


def seconds_process(model: Path, rows: pd.DataFrame, folder: Path) -> float:
    """One combination in a process of its own, start-up and model load counted."""
    table = folder / "one.csv"
    rows.to_csv(table, index=False)
    command = [sys.executable, "-m", "medi.cli", "sample", model, table, "--out", folder / "out", "--steps", STEPS]
    start = time.perf_counter()
    subprocess.run([*map(str, command), "--batch", str(PER_COMBINATION)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def speed(name: str, settings: NetworkSettings, combinations: int, threads: int, rounds: int) -> dict[str, Any]:
    """Figures of one network at one thread count; the two ways take turns."""
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    rows, together, loop, alone = plan(combinations), [], [], []
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), settings, combinations)
        for i in range(rounds):
            loop.append(seconds_loop(model, rows))
            together.append(seconds_together(model, rows, Path(folder) / f"together{i}"))
        for i in range(PROCESSES):
            (home := Path(folder) / f"alone{i}").mkdir()
            alone.append(seconds_process(model, rows.iloc[i * PER_COMBINATION : (i + 1) * PER_COMBINATION], home))
    place, n = f"{name}_{threads}_threads", len(rows)
    extrapolated = f"{PROCESSES} processes measured, times {combinations} (extrapolated), start-up counted"
    return {
        f"over_loop_{place}": figure(
            [b / a for a, b in zip(together, loop)], "", ">= 3", n, "loop over combinations, batch 32, one process"
        ),
        f"over_processes_{place}": figure(
            [b * combinations / min(together) for b in alone], "", ">= 10", n, extrapolated
        ),
        f"images_per_second_{place}": figure(
            [n / a for a in together], "images/s", None, n, f"{STEPS} steps, batch 128"
        ),
    }


def quality(run: Path, cells: int, n: int) -> dict[str, Any]:
    """Mean distance per combination of each sampler, the same noise for all, and the floor with its spread."""
    extractor = encoder("colour-texture")
    reference = Cohort.load(run / "references" / "reference")
    real = _by_cell(reference, embed(reference, extractor), cells)
    model = run / "models" / "medi" / "model.safetensors"
    rows = _rows(load_model(model)[0].schema, list(real), n)
    distances = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in SAMPLERS.items():
            start = time.perf_counter()
            cohort = generate(model, rows, Path(folder) / name, 0, settings)
            assert cohort is not None
            made = _by_cell(cohort, embed(cohort, extractor), cells)
            distances[name] = _distances(real, made, n)
            print(
                f"{name}: {distances[name].mean():.2f}, {len(rows) / (time.perf_counter() - start):.1f} images/s",
                flush=True,
            )
    floor = np.stack([_floor(real, n, draw) for draw in range(DRAWS)]).mean(axis=1)
    spread = float(2 * floor.std(ddof=1))
    size = len(rows)
    found = {"floor": figure(floor.tolist(), "", None, size, f"real against real, {DRAWS} draws of n = {n}")}
    found |= {
        name: figure([values.mean()], "", None, size, f"{len(real)} combinations") for name, values in distances.items()
    }
    for name in ("dpm_16", "dpm_20"):
        difference = (distances[name] - distances["ddim_100"]).mean()
        against = f"DDIM-100, the same noise; the target is two standard deviations of the floor's mean, {spread:.2f}"
        found[f"{name}_minus_ddim_100"] = figure([difference], "", f"<= {spread:.3f}", size, against)
    return {f"frechet_{name}": value for name, value in found.items()}


def _rows(schema: Schema, cells: list[Cell], n: int) -> pd.DataFrame:
    """n images of each combination; what else the model knows is drawn evenly from its levels."""
    table = images(pd.DataFrame([(*cell, n) for cell in cells], columns=["class", "site", "n"]))
    others = [a for a in schema.attributes if a.name != "site"]
    levels = {a.name: [a.levels[i % len(a.levels)] for i in range(len(table))] for a in others}
    return table.assign(**levels)


def _by_cell(cohort: Cohort, features: np.ndarray, cells: int) -> dict[Cell, pd.DataFrame]:
    """Features of evenly spaced combinations, indexed by slide."""
    table = pd.DataFrame(features.astype(np.float64), index=cohort.table["slide"].to_numpy())
    groups = cohort.table.groupby(["class", "site"], sort=True).indices
    return {cell: table.iloc[groups[cell]] for cell in list(groups)[:: max(1, len(groups) // cells)]}


def _distances(real: dict[Cell, pd.DataFrame], made: dict[Cell, pd.DataFrame], n: int) -> np.ndarray:
    """Distance of n synthetic to n real images in each combination, the same real ones for every sampler."""
    return np.array([_distance(real[cell].sample(n, random_state=0), made[cell].head(n)) for cell in real])


def _floor(real: dict[Cell, pd.DataFrame], n: int, draw: int) -> np.ndarray:
    """Distances of n to n real patches of different slides, which are split in halves anew for each draw."""
    found = []
    for cell, table in real.items():
        slides = seeds.generator("benchmark", *cell, draw).permutation(table.index.unique())
        first = table.index.isin(slides[::2])
        found.append(_distance(table[first].head(n), table[~first].head(n)))
    return np.array(found)


def _distance(a: pd.DataFrame, b: pd.DataFrame) -> float:
    assert len(a) == len(b), "the reference has too few patches for this n"
    return frechet_distance(a.to_numpy(), b.to_numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a finished medi demo")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--combinations", type=int, default=200)
    parser.add_argument("--n", type=int, default=100, help="images per distance; at most half the reference's")
    parser.add_argument("--cells", type=int, default=32, help="combinations that distances are averaged over")
    parser.add_argument("--quick", action="store_true", help="a tenth of the plan, 20 images of 4 combinations")
    options = parser.parse_args()
    combinations, rounds = (options.combinations // 10, 1) if options.quick else (options.combinations, ROUNDS)
    found: dict[str, Any] = {}
    for threads in options.threads:
        found |= speed("small", embedded_study(quick=True).network, combinations, threads, rounds)
        found |= speed("demo", embedded_study().network, max(combinations // 10, PROCESSES), threads, rounds)
    if options.run:
        torch.set_num_threads(1)
        found |= quality(options.run, *((4, 20) if options.quick else (options.cells, options.n)))
    report("sampling", found, ("torch", "diffusers", "numpy"))


if __name__ == "__main__":
    main()
