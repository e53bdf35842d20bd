"""Sampling: a plan of 200 combinations x 32 images against loops over combinations, and few steps against DDIM-100.

python benchmarks/sampling.py [--run RUN] [--keep FOLDER] [--skip-speed] [--n 100] [--over 32] [--combinations 200]
    [--quick]

Ours is `medi sample` from its start to the finished cohort, on the whole machine. All loops may use all cores too, with
images kept in memory, 32 at once, no start-up counted, with the same solver and number of steps:
- strict: our own denoiser in the precision it takes by itself, one combination after another; fp32: the same in fp32.
- published: the same UNet in PyTorch's default layout under diffusers' DPMSolverMultistepScheduler, as its pipelines
  run it.
- processes: `medi sample` for one combination, start-up and model load counted, times the number of combinations;
  scripts: the same with the sampler of the published scripts, DDIM of 100 steps in fp32.
Ours is measured as it is by default and with --compile, where torch has kept what it compiled the first time. "steady"
is start-up apart, as for the loops: what a second plan of this length adds to the time of one.
Loops are measured on a part of the plan and scaled to the whole, which favours them; so are processes: their figures
say on how many. Two networks with random weights: that of `medi demo --quick` ("small") and that of `medi demo`.

--run is the folder of a finished `medi demo`: its MeDi model is sampled with DDIM-100 and with DPM-Solver++(2M), and
mean Frechet distances per combination are compared at equal n. The last line is one JSON object.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from common import figure, report, stock_unet
from medi.cli.main import app
from medi.cohort.pixels import to_uint8
from medi.cohort.plan import images
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.evaluation.encoders import embed, encoder
from medi.evaluation.fidelity.frechet import frechet_distance
from medi.models.checkpoint import load_model, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.sampling.generate import generate
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.study.settings import embedded_study

Combination = tuple[str, str]
CLASSES, PER_COMBINATION, STEPS, DRAWS = 10, 32, 16, 10
FEW: tuple[object, ...] = ("--steps", STEPS)
FEWEST = ("--steps", "2")
SCRIPTS = ("--solver", "ddim_clipped", "--schedule", "leading", "--steps", 100, "--precision", "fp32")
LOOPS = {
    "strict": "our denoiser, its precision",
    "fp32": "our denoiser in fp32",
    "published": "diffusers' UNet and solver, fp32",
}
SAMPLERS = {
    "ddim_100": SamplerSettings(steps=100, solver="ddim_clipped", schedule="leading"),
    "dpm_16": SamplerSettings(steps=16),
    "dpm_20": SamplerSettings(steps=20),
    "dpm_16_fp32": SamplerSettings(steps=16, precision="fp32"),
}


def plan(combinations: int) -> pd.DataFrame:
    """A row per image: 32 of each of so many class x site combinations."""
    rows = [(f"c{i % CLASSES}", f"s{i // CLASSES}", PER_COMBINATION) for i in range(combinations)]
    return images(pd.DataFrame(rows, columns=["class", "site", "n"]))


def random_model(folder: Path, settings: NetworkSettings, combinations: int) -> Path:
    sites = tuple(f"s{i}" for i in range(-(-combinations // CLASSES)))
    schema = Schema(
        Attribute("class", levels=tuple(f"c{i}" for i in range(CLASSES))), (Attribute("site", levels=sites),)
    )
    torch.manual_seed(0)
    return save_model(folder / "model.safetensors", Denoiser(settings, schema))


@dataclass(frozen=True)
class Budget:
    """How much is measured; `quick` runs `medi sample` in this process, without a start, and compiles nothing."""

    combinations: int = 200
    part: int = 20  # combinations that the loops are measured on
    processes: int = 3
    over: int = 32  # combinations that distances are averaged over
    n: int = 100  # images per distance
    samplers: Mapping[str, SamplerSettings] = field(default_factory=lambda: SAMPLERS)
    quick: bool = False


QUICK = Budget(
    1, 1, 1, 2, 8, {name: replace(settings, steps=2, batch=16) for name, settings in SAMPLERS.items()}, quick=True
)


def command(model: Path, rows: pd.DataFrame, folder: Path, quick: bool, *options: object) -> float:
    """Seconds of `medi sample` as a whole: start, model load, images, cohort."""
    folder.mkdir()
    table = folder / "plan.csv"
    rows.to_csv(table, index=False)
    asked = [str(word) for word in ("sample", model, table, "--out", folder / "out", *options)]
    start = time.perf_counter()
    if quick:
        app([word for word in (*asked, *FEWEST) if word != "--compile"], standalone_mode=False)
    else:
        subprocess.run([sys.executable, "-m", "medi.cli", *asked], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def strict(model: Path, rows: pd.DataFrame, precision: str = "auto") -> float:
    """Seconds an image of our denoiser, one combination after another."""
    denoiser, _ = load_model(model)
    settings = SamplerSettings(steps=STEPS, batch=PER_COMBINATION, precision=precision)
    start = time.perf_counter()
    for _, part in rows.groupby(["class", "site"], sort=False):
        sample_images(denoiser, part, 0, settings)
    return (time.perf_counter() - start) / len(rows)


def published(settings: NetworkSettings, combinations: int) -> float:
    """Seconds an image of a stock UNet under diffusers' own solver, one combination after another."""
    from diffusers import DPMSolverMultistepScheduler

    network = stock_unet(settings).eval()
    scheduler = DPMSolverMultistepScheduler(1000)
    edge, channels = settings.size // settings.fold, 3 * settings.fold**2
    start = time.perf_counter()
    with torch.no_grad():
        for i in range(combinations):
            scheduler.set_timesteps(STEPS)
            x = torch.randn(PER_COMBINATION, channels, edge, edge, generator=torch.Generator().manual_seed(i))
            z = torch.randn(1, settings.condition_width).repeat(PER_COMBINATION, 1)
            for t in scheduler.timesteps:
                x = scheduler.step(
                    network(scheduler.scale_model_input(x, t), t, class_labels=z).sample, t, x
                ).prev_sample
            to_uint8(torch.nn.functional.pixel_shuffle(x, settings.fold).numpy())
    return (time.perf_counter() - start) / (combinations * PER_COMBINATION)


def speed(name: str, settings: NetworkSettings, budget: Budget) -> dict[str, Any]:
    """Figures of one network: ours between two measurements of each loop on `part` combinations."""
    combinations, part, quick = budget.combinations, budget.part, budget.quick
    rows, twice = plan(combinations), plan(2 * combinations)
    some, n = rows.head(part * PER_COMBINATION), len(rows)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = random_model(home, settings, 2 * combinations)
        strict(model, rows.head(PER_COMBINATION)), published(settings, 1)
        ways = {
            "strict": lambda: strict(model, some),
            "fp32": lambda: strict(model, some, "fp32"),
            "published": lambda: published(settings, part),
        }
        loops = {key: [way() * n] for key, way in ways.items()}
        ours = command(model, rows, home / "ours", quick, *FEW)
        _, compiled = (command(model, rows, home / f"compiled{i}", quick, *FEW, "--compile") for i in range(2))
        steady = command(model, twice, home / "twice", quick, *FEW) - ours
        steady_compiled = command(model, twice, home / "compiled-twice", quick, *FEW, "--compile") - compiled
        loops = {key: [*loops[key], way() * n] for key, way in ways.items()}
        one = command(model, some, home / "one", quick, *FEW, "--workers", 1)
        alone, scripts = (
            [
                command(model, rows.iloc[i * PER_COMBINATION :][:PER_COMBINATION], home / f"{name}{i}", quick, *options)
                for i in range(budget.processes)
            ]
            for name, options in (("alone", FEW), ("script", SCRIPTS))
        )
    loop = f"measured on {part} of {combinations} combinations and scaled; all cores, batch 32, in memory"
    processes = f"{budget.processes} processes measured, times {combinations}"
    figures = {
        **{
            f"{way}over_{key}_loop": figure(np.array(loops[key]) / seconds, "", ">= 3", n, f"{against}; {loop}")
            for key, against in LOOPS.items()
            for way, seconds in (
                ("", ours),
                ("compiled_", compiled),
                ("steady_", steady),
                ("steady_compiled_", steady_compiled),
            )
        },
        "over_processes": figure(
            np.array(alone) * combinations / ours, "", ">= 10", n, f"the same sampler; {processes}"
        ),
        "over_scripts": figure(np.array(scripts) * combinations / ours, "", ">= 10", n, f"DDIM-100, fp32; {processes}"),
        "steady_images_per_second": figure([n / steady], "images/s", None, n, "start-up apart, all cores"),
        "steady_compiled_images_per_second": figure([n / steady_compiled], "images/s", None, n, "the same, --compile"),
        "images_per_second": figure([n / ours], "images/s", None, n, "start-up counted, all cores"),
        "one_process": figure([len(some) / one], "images/s", None, len(some), "--workers 1, start-up counted"),
    }
    return {f"{name}_{key}": value for key, value in figures.items()}


def quality(run: Path, folder: Path, budget: Budget) -> dict[str, Any]:
    """Mean distance per combination of each sampler, the same noise for all, and the floor with its spread; samples
    are kept in `folder`."""
    extractor, combinations, n = encoder("colour-texture"), budget.over, budget.n
    reference = Cohort.load(run / "references" / "reference")
    real = _by_combination(reference, embed(reference, extractor), combinations)
    model = run / "models" / "medi" / "model.safetensors"
    rows = _rows(load_model(model)[0].schema, list(real), n)
    distances = {}
    for name, settings in budget.samplers.items():
        cohort = generate(model, rows, folder / name, 0, settings)
        assert cohort is not None
        distances[name] = _distances(real, _by_combination(cohort, embed(cohort, extractor), combinations), n)
        print(f"{name}: {distances[name].mean():.2f}", flush=True)
    floor = np.stack([_floor(real, n, draw) for draw in range(DRAWS)]).mean(axis=1)
    spread = float(2 * floor.std(ddof=1))
    size = len(rows)
    found = {"floor": figure(floor.tolist(), "", None, size, f"real against real, {DRAWS} draws of n = {n}")}
    found |= {
        name: figure([values.mean()], "", None, size, f"{len(real)} combinations") for name, values in distances.items()
    }
    for name in ("dpm_16", "dpm_20", "dpm_16_fp32"):
        difference = (distances[name] - distances["ddim_100"]).mean()
        against = f"DDIM-100, the same noise; the target is two standard deviations of the floor's mean, {spread:.2f}"
        found[f"{name}_minus_ddim_100"] = figure([difference], "", f"<= {spread:.3f}", size, against)
    return {f"frechet_{name}": value for name, value in found.items()}


def _rows(schema: Schema, combinations: list[Combination], n: int) -> pd.DataFrame:
    """n images of each combination; what else the model knows is drawn evenly from its levels."""
    table = images(pd.DataFrame([(*combination, n) for combination in combinations], columns=["class", "site", "n"]))
    others = [a for a in schema.attributes if a.name != "site"]
    levels = {a.name: [a.levels[i % len(a.levels)] for i in range(len(table))] for a in others}
    return table.assign(**levels)


def _by_combination(cohort: Cohort, features: np.ndarray, combinations: int) -> dict[Combination, pd.DataFrame]:
    """Features of evenly spaced combinations, indexed by slide."""
    table = pd.DataFrame(features.astype(np.float64), index=cohort.table["slide"].to_numpy())
    groups = cohort.table.groupby(["class", "site"], sort=True).indices
    chosen = list(groups)[:: max(1, len(groups) // combinations)]
    return {combination: table.iloc[groups[combination]] for combination in chosen}


def _distances(real: dict[Combination, pd.DataFrame], made: dict[Combination, pd.DataFrame], n: int) -> np.ndarray:
    """Distance of n synthetic to n real images in each combination, the same real ones for every sampler."""
    return np.array([_distance(table.sample(n, random_state=0), made[key].head(n)) for key, table in real.items()])


def _floor(real: dict[Combination, pd.DataFrame], n: int, draw: int) -> np.ndarray:
    """Distances of n to n real patches of different slides, which are split in halves anew for each draw."""
    found = []
    for combination, table in real.items():
        slides = seeds.generator("benchmark", *combination, draw).permutation(table.index.unique())
        first = table.index.isin(slides[::2])
        found.append(_distance(table[first].head(n), table[~first].head(n)))
    return np.array(found)


def _distance(a: pd.DataFrame, b: pd.DataFrame) -> float:
    assert len(a) == len(b), "the reference has too few patches for this n"
    return frechet_distance(a.to_numpy(), b.to_numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a finished medi demo")
    parser.add_argument("--combinations", type=int, default=200)
    parser.add_argument("--n", type=int, default=100, help="images per distance; at most half the reference's")
    parser.add_argument("--over", type=int, default=32, help="combinations that distances are averaged over")
    parser.add_argument("--keep", type=Path, help="keep the samples here; what a cut run left is gone on with")
    parser.add_argument("--skip-speed", action="store_true", help="distances alone")
    parser.add_argument("--quick", action="store_true", help="the small network alone, few combinations and steps")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = Budget(options.combinations, n=options.n, over=options.over)
    budget = QUICK if options.quick else wanted
    networks = {"small": embedded_study(quick=True).network}
    networks |= {} if options.quick else {"demo": embedded_study().network}
    found: dict[str, Any] = {}
    for name, network in () if options.skip_speed else networks.items():
        found |= speed(name, network, budget)
    if options.run:
        with tempfile.TemporaryDirectory() as folder:
            found |= quality(options.run, options.keep or Path(folder), budget)
    report("sampling", found, ("torch", "diffusers", "numpy"))


if __name__ == "__main__":
    main()
