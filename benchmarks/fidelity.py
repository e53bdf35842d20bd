"""Can the fidelity tables be trusted, and how long do they take?

python benchmarks/fidelity.py [--quick] [--parts calibration wide guard memorisation speed] [--run runs/study/seed0]

calibration  coverage of the paired 95 % interval for the difference that sets of this n show on average (estimated
             from the repeats themselves), and the level of the MMD permutation test; 100 images of 20 slides with a
             slide effect, against Gaussian arms of known mean and spread; 67 features
wide         the same coverage with 512 features
guard        how often the collapse guard fires, on collapsed arms and on equal ones
memorisation noisy, turned copies found; fresh patches of training slides called copies (phantom)
speed        one distance; the table of 640 combinations with and without intervals
--run        on a finished demo run: real against real among half-splits of slides, and what the models show as asked

The last line is one JSON object.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common import figure, report
from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort, slide_units
from medi.cohort.turns import turned
from medi.core.claims import GUARD
from medi.evaluation.control import control
from medi.evaluation.encoders import COLOUR_TEXTURE, embed
from medi.evaluation.features import Embedded
from medi.evaluation.fidelity.compare import halves, per_combination
from medi.evaluation.fidelity.frechet import frechet_distance
from medi.evaluation.fidelity.kernels import mmd_test
from medi.evaluation.memorisation import Patches, memorisation
from medi.study.context import reopen

Figures = dict[str, dict[str, Any]]
OVER = ("class", "site")
SLIDES, PER_SLIDE = 20, 5
N = SLIDES * PER_SLIDE
SLIDE_EFFECT = 0.5  # standard deviation of slide means, of patches within a slide 1


def arm(name: str, rows: np.ndarray, slides: bool = False) -> Embedded:
    """A set of one combination, its table as cohorts have it."""
    table = pd.DataFrame({"sample_id": [f"{name}{i:05d}" for i in range(len(rows))], "class": "A", "site": "x"})
    return Embedded(rows, table.assign(slide=[f"{name}{i // PER_SLIDE}" for i in range(len(rows))] if slides else ""))


def scales(d: int) -> np.ndarray:
    """Features of very different spread, as encoders give them."""
    return np.geomspace(3.0, 0.3, d)


def real_rows(rng: np.random.Generator, d: int) -> np.ndarray:
    slide = rng.normal(scale=SLIDE_EFFECT, size=(SLIDES, 1, d))
    return (slide + rng.normal(size=(SLIDES, PER_SLIDE, d))).reshape(N, d) * scales(d)


def made_rows(rng: np.random.Generator, d: int, shift: float = 0.0, spread: float = 1.0, copies: int = 1) -> np.ndarray:
    """Rows with the real mean and spread, but for a shift (in real standard deviations), a factor, or repeats."""
    total = np.sqrt(1 + SLIDE_EFFECT**2) * scales(d)
    return np.tile(rng.normal(shift, spread, size=(N // copies, d)), (copies, 1)) * total


def compared(seed: int, d: int, draws: int, **arms: dict[str, Any]) -> pd.DataFrame:
    rng = np.random.default_rng([seed, d])
    real, floor = (arm(name, real_rows(rng, d), slides=True) for name in ("real", "floor"))
    sets = {name: arm(name, made_rows(rng, d, **settings)) for name, settings in arms.items()}
    return per_combination(real, floor, sets, over=OVER, n=N, seed=seed, encoder="gauss", draws=draws)


def differences(repeats: int, d: int, draws: int, **arms: dict[str, Any]) -> pd.DataFrame:
    """The Frechet difference of two arms in each repeat."""
    found = pd.concat([compared(seed, d, draws, **arms) for seed in range(repeats)])
    return found[(found["metric"] == "frechet_difference") & (found["scope"] == "combination")]


def share(hits: Any, target: str | None, against: str) -> dict[str, Any]:
    """A rate with its 95 % range by the binomial."""
    p, n = float(np.mean(hits)), len(hits)
    half = 1.96 * np.sqrt(max(p * (1 - p), 1 / n / 4) / n)
    return figure([p], "", target, n, against) | {"spread": [round(max(p - half, 0), 4), round(min(p + half, 1), 4)]}


def covers(quick: bool, d: int) -> Figures:
    repeats, draws = (2, 5) if quick else (500, 100)
    null = differences(repeats, d, draws, a={}, b={})
    far = differences(repeats, d, draws, a={"shift": 0.3}, b={})
    truth = far["value"].mean()
    text = f"shift of 0.3 sd against none, difference {truth:.1f} at n = {N}"
    half = [((part["high"] - part["low"]) / 2 / part["value"].std()).mean() for part in (null, far)]
    width = f"half width over the standard deviation of the difference; {half[0]:.2f} on null data"
    return {
        f"covers_null_d{d}": share((null["low"] <= 0) & (null["high"] >= 0), ">= 0.93", "two equal arms, 0"),
        f"covers_shift_d{d}": share((far["low"] <= truth) & (truth <= far["high"]), ">= 0.93", text),
        f"half_width_shift_d{d}": figure([half[1]], "sd", None, repeats, width),
    }


def calibration(quick: bool) -> Figures:
    made, repeats = covers(quick, 67), 2 if quick else 500
    rng = np.random.default_rng(1)
    sides = [(rng.normal(size=(20, 67)), rng.normal(size=(20, 67))) for _ in range(5 * repeats)]
    p = np.array([mmd_test(x, y, permutations=199, key=("null", i)) for i, (x, y) in enumerate(sides)])
    made["mmd_rejects_null"] = share(p <= 0.05, "0.03 to 0.07", "permutation test, 20 + 20 rows, d = 67")
    return made


def guard(quick: bool) -> Figures:
    repeats, draws = (1, 5) if quick else (100, 100)
    made: Figures = {}
    for d, shift in ((67, 0.6), (512, 0.1))[: 1 if quick else 2]:
        cases = {
            "spread": ({"spread": 0.7}, {"shift": shift}, ">= 0.95"),
            "duplicates": ({"copies": 5}, {"shift": 1.0}, ">= 0.95"),
            "equal": ({}, {}, "<= 0.10"),
        }
        for name, (low, other, target) in cases.items():
            found = differences(repeats, d, draws, low=low, other=other)
            if name != "equal":
                found = found[found["value"] < 0]  # the collapsed arm is nearer: the verdict that must be withheld
            fired = found["reason"].str.contains(GUARD, regex=False)
            made[f"guard_{name}_d{d}"] = share(fired, target, f"{low or 'as real'} against {other or 'as real'}")
    return made


def copies(quick: bool) -> Figures:
    combinations = [(c, s) for c in phantom.CLASSES for s in phantom.SITES]
    chosen, n = (combinations[:4], 14) if quick else (combinations, 70)
    whole = phantom.fresh(chosen, n, 0, "copying", patches_per_slide=14)
    place = whole.table.groupby("slide").cumcount()
    train, null, fresh = (
        patches(whole.select(place.isin(part).to_numpy())) for part in (range(8), (8, 9, 10), (11, 12, 13))
    )
    rng, base = np.random.default_rng(0), train.cohort
    noisy = (base.images[:] + rng.normal(scale=6.0, size=base.images[:].shape)).clip(0, 255).round().astype(np.uint8)
    images = np.stack([turned(image[None], i % 8)[0] for i, image in enumerate(noisy)])
    table = base.table.assign(sample_id="copy" + base.table["sample_id"])
    sets = {"copies": patches(Cohort(table, base.schema, Pixels.of(images))), "fresh": fresh}
    start = time.perf_counter()
    found = memorisation(train, sets, null, None, over=OVER, seed=0).figures
    seconds = time.perf_counter() - start
    rates = found[found["metric"] == "copy_rate"].set_index("arm")
    made = {}
    for name, target in (("copies", ">= 0.99"), ("fresh", "<= 0.05")):
        row = rates.loc[name]
        text = f"{len(train):,} training patches; noise of 6 grey levels, turned" if name == "copies" else "same slides"
        head = figure([row["value"]], "", target, int(row["n_synthetic"]), text)
        made[f"memorisation_{name}"] = head | {"spread": [round(row["low"], 4), round(row["high"], 4)]}
    text = f"{len(images) + len(fresh) + len(null):,} patches against {len(train):,}"
    return made | {"memorisation_seconds": figure([seconds], "s", None, 1, text)}


def patches(cohort: Cohort) -> Patches:
    return Patches(cohort, embed(cohort, COLOUR_TEXTURE))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speed(quick: bool) -> Figures:
    """Peak memory is that of the whole process: run this part alone."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 2048)).astype(np.float32), rng.normal(size=(100, 2048)).astype(np.float32)
    one = [1e3 * timed(lambda: frechet_distance(x, y)) for _ in range(2 if quick else 20)][1:]
    classes, sites, draws, d = (1, 1, 5, 32) if quick else (32, 20, 1000, 1024)
    sets = {name: many(name, rng, classes, sites, d) for name in ("real", "floor", "cls", "medi")}
    real, floor = sets.pop("real"), sets.pop("floor")

    def table(draws: int) -> pd.DataFrame:
        return per_combination(real, floor, sets, over=OVER, n=N, seed=0, encoder="speed", draws=draws)

    made: Figures = {"one_distance": figure(one, "ms", "<= 30", len(one), "n = 100, d = 2048")}
    text = f"{len(real) // N} combinations of 100 images, d = {d:,}, two arms and floor, all measures"
    made["table_without_intervals"] = figure([timed(lambda: table(0))], "s", "<= 20", 1, text)
    made["table_with_intervals"] = figure(
        [timed(lambda: table(draws)) / 60], "min", "<= 10", 1, f"{text}, {draws:,} draws"
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return made | {"memory": figure([memory], "GiB", "<= 4", 1, "peak of the process, features included")}


def many(name: str, rng: np.random.Generator, classes: int, sites: int, d: int) -> Embedded:
    combinations = [(f"c{c}", f"s{s}") for c in range(classes) for s in range(sites)]
    table = pd.DataFrame([pair for pair in combinations for _ in range(N)], columns=list(OVER))
    table["sample_id"] = [f"{name}{i:06d}" for i in range(len(table))]
    table["slide"] = [f"{name}{i // PER_SLIDE}" for i in range(len(table))] if name in ("real", "floor") else ""
    return Embedded(rng.normal(size=(len(table), d), loc=0.1 * (name == "cls")).astype(np.float32), table)


def finished(folder: Path, quick: bool) -> Figures:
    """What a demo run shows: the floor among half-splits, and whether the models show what was asked for."""
    study = reopen(str(folder))
    sets = study.embedded()
    return floors(sets, study.over, 1 if quick else 200) | as_asked(sets, study)


def floors(sets: dict[str, Embedded], over: tuple[str, str], splits: int) -> Figures:
    """Where the distance of reference and floor lies among distances of slide-disjoint halves of both, at its n."""
    inside = []
    both = sets["reference"].join(sets["floor"])
    whole, table = both.features, both.table
    for _, rows in sorted(table.groupby(list(over)).indices.items()):
        own, slides = table.iloc[rows].reset_index(drop=True), slide_units(table.iloc[rows]).to_numpy()
        first = np.arange(len(rows)) < (table.iloc[rows]["sample_id"].isin(sets["reference"].table["sample_id"])).sum()
        n = min(first.sum(), (~first).sum(), 100)
        found = distance(whole[rows], first, slides, n)
        null = [distance(whole[rows], halves(own, over, seed), slides, n) for seed in range(splits)]
        low, high = np.percentile(null, [2.5, 97.5])
        inside.append(low <= found <= high)
    text = f"{len(inside)} combinations, {splits} half-splits of slides each, n = 100"
    return {"floor_within_half_splits": share(np.array(inside), ">= 0.90", text)}


def distance(rows: np.ndarray, first: np.ndarray, slides: np.ndarray, n: int) -> float:
    """Of n rows of either side, whole slides as far as they go."""
    sides = [rows[side][np.argsort(slides[side], kind="stable")][:n] for side in (first, ~first)]
    size = min(len(side) for side in sides)
    return frechet_distance(*(side[:size] for side in sides))


def as_asked(sets: dict[str, Embedded], study: Any) -> Figures:
    arms = {name: sets[name] for name in ("medi", "cls")}
    held_out = frozenset(study.unseen())
    found = control(sets["train"], sets["reference"], arms, over=study.over, seed=0, encoder="run", held_out=held_out)
    rows = found.figures[(found.figures["metric"] == "as_asked") & (found.figures["scope"] == "all")]
    values = rows.set_index(["arm", "attribute", "split"])["value"]
    sizes = rows.set_index(["arm", "attribute", "split"])["n_synthetic"]
    made: Figures = {}
    for attribute in (study.over[1], "class"):
        for split in ("seen", "unseen"):
            for name in ("medi", "cls"):
                ratio = values[name, attribute, split] / values["real", attribute, split]
                wanted = ">= 0.95" if (name, attribute, split) == ("medi", study.over[1], "unseen") else None
                text = f"{values[name, attribute, split]:.3f} over the probe's {values['real', attribute, split]:.3f}"
                n = int(sizes[name, attribute, split])
                made[f"as_asked_{attribute}_{split}_{name}"] = figure([ratio], "", wanted, n, text)
    return made


def wide(quick: bool) -> Figures:
    return covers(quick, 32 if quick else 512)


PARTS = {"calibration": calibration, "wide": wide, "guard": guard, "memorisation": copies, "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    figures: Figures = {}
    for name in options.parts:
        figures |= PARTS[name](options.quick)
    if options.run:
        figures |= finished(options.run, options.quick)
    report("fidelity", figures, ("numpy", "scipy", "scikit-learn"))


if __name__ == "__main__":
    main()
