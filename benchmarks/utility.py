"""Utility: do intervals cover, are the many probes fast, and what does MeDi buy beside every baseline?

python benchmarks/utility.py coverage | speed | runs RUN... [--out runs/utility] [--budget SECONDS] [--quick]

Times are CPU seconds, so that other work on the machine hardly counts: run it with one thread (OMP_NUM_THREADS=1).
What is done is kept in --out: after --budget CPU seconds it stops, and the same command goes on.

coverage: intervals over patients and over patches on a hierarchical null. speed: all arms x seeds x ratios on made-up
embeddings, against scikit-learn's fits one by one on a stated part of the same grid. runs: every arm on the unseen
combinations of finished runs of `medi demo`. The last line is one JSON object.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from common import figure, report
from medi.cohort.table import Cohort
from medi.core.files import content_hash, read_json, read_table, write_atomic, write_json, write_table
from medi.core.registry import registry
from medi.evaluation.classify.arms import Arm, Material, arms_of
from medi.evaluation.classify.probes import GRID, Pool, tuned, tuned_at
from medi.evaluation.classify.regimes import points
from medi.evaluation.classify.scores import BALANCED_ACCURACY, Answers
from medi.evaluation.classify.stained import AUGMENTATIONS, STAIN, STAINS, stained
from medi.evaluation.classify.utility import adjusted, evaluate, prepared
from medi.evaluation.encoders import Encoder, encoder
from medi.evaluation.features import Embedded
from medi.evaluation.statistics import cluster_bootstrap
from medi.study.context import Study, reopen

OVER = ("class", "site")
CLASS_APART, SITE_APART = 2.1, 4.0  # length of a class's and a site's mean, noise 1
PLAIN_FITS = 12  # of scikit-learn, spread over arms and penalties
GIVEN = ("real", "cls", "medi", "oracle")
Parts = tuple[tuple[str, ...], ...]
PARTS: Parts = (  # arms that are compared in one go
    ("unweighted", "combination_weights", "resampled"),
    ("group_dro", "mixup"),
    ("lisa", "coral"),
    ("dfr", "medi_filtered"),
    ("medi_only", "site_centred"),
    ("macenko", "hed_jitter"),
    ("reinhard", "randstainna"),
)
QUICK: Parts = (("unweighted",), ("macenko",))
FREE = ("real", "unweighted", "combination_weights", "resampled", "cls")  # what MeDi must beat


def coverage(repeats: int) -> dict[str, dict[str, Any]]:
    """A classifier that is right in a share of patches that differs by patient, 24 patients of 10 patches."""
    covered = {"patients": 0, "patches": 0}
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        patient = np.repeat(np.arange(24), 10)
        right = rng.random(240) < rng.beta(2, 1, 24)[patient]  # 2/3 on average
        labels = patient % 2
        votes = np.eye(2)[np.where(right, labels, 1 - labels)]
        rows = BALANCED_ACCURACY.rows(Answers(labels, votes, votes, labels))
        for name, clusters in (("patients", patient), ("patches", np.arange(240))):
            key = ("coverage", repeat)
            found = cluster_bootstrap(BALANCED_ACCURACY.statistic, clusters.astype(str), rows, draws=1000, key=key)
            covered[name] += found.low <= 2 / 3 <= found.high
    share = {name: count / repeats for name, count in covered.items()}
    return {
        "coverage_patients": figure([share["patients"]], "", ">= 0.9", repeats, "95 % interval, hierarchical null"),
        "coverage_patches": figure([share["patches"]], "", "< 0.9", repeats, "the same data, patches resampled"),
    }


def cohort(n: int, d: int) -> tuple[Embedded, dict[str, Embedded], Embedded, dict[str, Embedded]]:
    """Embeddings with a class and a stronger site, spectrum falling as in encoders: n rows with MeDi's, half real.

    The best boundary between the classes is right in 93 %, as is about a probe on the phantom.
    """
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(d, d)).astype(np.float32) * (np.arange(1, d + 1) ** -0.7).astype(np.float32)
    axes = rng.normal(size=(10, d)).astype(np.float32)
    axes = np.array([CLASS_APART] * 2 + [SITE_APART] * 8)[:, None] * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    axes = (axes @ spread.T).astype(np.float32)
    combinations = [(c, s) for c in range(2) for s in range(8)]

    def made(name: str, chosen: list[tuple[int, int]], rows: int, origin: str) -> Embedded:
        drawn = np.array(chosen)[np.arange(rows) % len(chosen)]
        x = rng.normal(size=(rows, d)).astype(np.float32) @ spread.T + axes[drawn[:, 0]] + axes[2 + drawn[:, 1]]
        table = pd.DataFrame({"sample_id": [f"{name}{i}" for i in range(rows)]})
        table = table.assign(**{"class": [f"c{k}" for k in drawn[:, 0]], "site": [f"s{k}" for k in drawn[:, 1]]})
        owner = [f"{name}{c}{s}-{i // 160}" if origin == "real" else "" for i, (c, s) in enumerate(drawn)]
        return Embedded(x, table.assign(patient=owner, slide=owner, origin=origin))

    held = [(0, 1), (1, 2), (0, 5), (1, 6)]
    seen = [pair for pair in combinations if pair not in held]
    synthetic = {"cls": made("c", seen, n // 2, "hash1"), "medi": made("m", combinations, n // 2, "hash2")}
    tests = {"unseen": made("t", held, 400, "real"), "seen": made("u", seen, 400, "real")}
    return made("r", seen, n // 2, "real"), synthetic, made("o", held, n // 2, "real"), tests


def grid_points(arm: Arm, seed: int) -> list[np.ndarray]:
    """The ratios of an arm with synthetic rows; every other arm has one point."""
    table = arm.table if arm.name != "oracle" else arm.table.assign(origin=_as_synthetic(arm))
    found = [point.rows for point in points(table, OVER, seed) if point.x_name == "ratio"]
    return [rows.astype(np.float64) for rows in found] if arm.trains is None else []


def _as_synthetic(arm: Arm) -> np.ndarray:
    return np.where(arm.table["sample_id"].str.startswith("o"), "o", "real")


class Kept:
    """Parts of a benchmark that are done, as JSON or arrays in a folder."""

    def __init__(self, folder: Path, budget: float) -> None:
        self.folder, self.budget = folder, budget

    def json(self, name: str, make: Callable[[], Any]) -> Any:
        path = self.folder / f"{name}.json"
        if not path.exists():
            self._go_on()
            write_json(path, make())
        return read_json(path)

    def array(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            self._go_on()
            found = make()
            write_atomic(path, lambda temporary: _save(temporary, found))
        return np.load(path)

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            self._go_on()
            write_table(path, make())
        return read_table(path)

    def _go_on(self) -> None:
        if time.process_time() > self.budget:
            raise SystemExit("budget spent; the same command goes on")


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as handle:
        np.save(handle, array)


def arm_fits(make: Callable[[], Arm], seeds: int) -> dict[str, float]:
    """Fits and CPU seconds of an arm in all seeds, with its making and its factors: C, then ratios."""
    start, arm, fits = time.process_time(), make(), 0
    pool = Pool.of(arm.rows, over=OVER, trains=arm.trains)
    for seed in range(seeds):
        made = prepared(arm, pool, seed)
        chosen, ratios = tuned(made), grid_points(arm, seed)
        if ratios:
            tuned_at(made, np.stack(ratios), chosen.c)
        fits += (4 * len(GRID) + 1) * len(made.weights) + len(ratios)
    return {"fits": fits, "seconds": time.process_time() - start}


def plain_fit(make: Callable[[], Arm], c: float) -> float:
    """CPU seconds of scikit-learn's fit of an arm's rows less one fold."""
    arm = make()
    x = arm.embeddings.astype(np.float64)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    rows = np.arange(len(z)) % 4 > 0
    start = time.process_time()
    LogisticRegression(C=c, class_weight="balanced", max_iter=1000).fit(z[rows], arm.table["class"][rows])
    return time.process_time() - start


def makers(n: int, d: int) -> dict[str, Callable[[], Arm]]:
    """Every arm, made when it is asked for."""
    real, synthetic, oracle, tests = cohort(n, d)
    moved = Embedded(real.features + np.float32(0.1), real.table)  # as large as stained ones
    material = Material(real, synthetic, tests, OVER, oracle=oracle)
    names = [*registry("arm"), "medi_filtered", "medi_only"]
    found = {name: partial(_alone, material, name) for name in names if name != "class_weights"}
    found |= {"real": partial(Arm, "real", real)}
    found |= {name: partial(_joined, name, real, rows) for name, rows in {**synthetic, "oracle": oracle}.items()}
    found |= {name: partial(_joined, name, real, moved) for name in AUGMENTATIONS}
    return found | {name: partial(Arm, name, moved) for name in STAIN if name not in AUGMENTATIONS}


def _alone(material: Material, name: str) -> Arm:
    return next(arm for arm in arms_of(material, [name]) if arm.name == name)


def _joined(name: str, real: Embedded, rows: Embedded) -> Arm:
    return Arm(name, real.join(rows))


def speed(kept: Kept, quick: bool) -> dict[str, dict[str, Any]]:
    n, d, seeds = (400, 16, 1) if quick else (20000, 1024, 5)
    made = makers(n, d)
    ours = {name: kept.json(f"speed-{n}-{name}", partial(arm_fits, make, seeds)) for name, make in made.items()}
    plain = []
    for number, (name, c) in enumerate(product(made, GRID)):
        if number % (len(made) * len(GRID) // PLAIN_FITS) == 0:
            plain.append(kept.json(f"plain-{n}-{name}-{c:g}", partial(plain_fit, made[name], c)))
    fits, seconds = (sum(arm[what] for arm in ours.values()) for what in ("fits", "seconds"))
    grid = f"{len(made)} arms, {seeds} seeds, 5 ratios, {n} x {d}"
    print({name: (arm["fits"], round(arm["seconds"], 1)) for name, arm in ours.items()})
    return {
        "fits_minutes": figure([seconds / 60], "CPU min", "<= 10", fits, grid),
        "plain_fit_seconds": figure(plain, "CPU s", None, len(plain), "scikit-learn, one fit at a time"),
        "speed_up": figure(
            [fits * float(np.mean(plain)) / seconds], "x", ">= 5", len(plain), "plain fits, from their mean"
        ),
    }


def material(folder: Path) -> tuple[Study, dict[str, Embedded], dict[str, Cohort]]:
    study = reopen(str(folder))
    return study, study.embedded(), study.sets()


def run(folder: Path, kept: Kept, parts: Parts) -> pd.DataFrame:
    """The utility table of one finished demo with the arms of all parts."""
    study, sets, cohorts = material(folder)
    unseen, reference = study.unseen(), sets["reference"]
    held = np.array([pair in unseen for pair in reference.table[list(OVER)].itertuples(index=False, name=None)])
    tests = {"seen": reference.take(~held), "unseen": reference.take(held)}
    patches = {"seen": cohorts["reference"].select(~held), "unseen": cohorts["reference"].select(held)}
    fill = sets["medi"].table["fill"].to_numpy(dtype=bool)
    synthetic = {name: sets[name].take(fill) for name in ("cls", "medi")}
    seed, chosen = study.settings.seed, study.encoder()
    place = f"{folder.name}-{content_hash(str(folder.resolve()))}"
    wanted = [name for name in STAIN if any(name in names for names in parts)]
    stained = [stain_arm(name, cohorts["train"], sets["train"], patches, chosen, seed, kept, place) for name in wanted]
    oracle = like(sets["oracle"], synthetic["medi"].table)
    tables = []
    for names in parts:

        def compared(names: tuple[str, ...] = names) -> pd.DataFrame:
            material = Material(sets["train"], synthetic, tests, OVER, seed, oracle=oracle)
            made = arms_of(material, [name for name in names if name not in STAIN])
            arms = [arm for arm in (*made, *stained) if arm.name in (*GIVEN, *names)]
            return evaluate(arms, tests, over=OVER, seed=seed)

        tables.append(kept.table(f"{place}-{'-'.join(names)}", compared))
    keys = ["metric", "arm", "against", "split", "scope", *OVER]
    return adjusted(pd.concat(tables, ignore_index=True).drop_duplicates(keys, ignore_index=True)).assign(run=place)


def stain_arm(
    name: str,
    train: Cohort,
    real: Embedded,
    tests: dict[str, Cohort],
    chosen: Encoder,
    seed: int,
    kept: Kept,
    place: str,
) -> Arm:
    """What `arms.stain_arms` makes, set by set."""
    transform = STAINS[name](train.images[:], seed).apply
    changed = Embedded(kept.array(f"{place}-{name}", partial(stained, train, transform, chosen)), real.table)
    if name in AUGMENTATIONS:
        return Arm(name, real.join(changed))
    moved = {
        split: kept.array(f"{place}-{name}-{split}", partial(stained, cohort, transform, chosen))
        for split, cohort in tests.items()
    }
    return Arm(name, changed, tests=moved)


def stain_seconds(folder: Path, most: int) -> dict[str, float]:
    """CPU seconds per 1,000 patches, stained and embedded, from `most` patches at most."""
    train, found = material(folder)[2]["train"], {}
    some, chosen = train.select(np.arange(min(most, len(train)))), encoder("colour-texture")
    for name in STAIN:
        transform = STAINS[name](train.images[:], 0).apply
        start = time.process_time()
        stained(some, transform, chosen)
        found[name] = (time.process_time() - start) * 1000 / len(some)
    return found


def like(pool: Embedded, wanted: pd.DataFrame) -> Embedded:
    """As many rows of every combination as `wanted` has."""
    needed = wanted.groupby(list(OVER)).size()
    rank = pool.table.groupby(list(OVER)).cumcount()
    return pool.take((rank < pool.table.set_index(list(OVER)).index.map(needed).fillna(0)).to_numpy(dtype=bool))


def runs(folders: list[Path], kept: Kept, parts: Parts, most: int) -> dict[str, dict[str, Any]]:
    found = pd.concat([run(folder, kept, parts) for folder in folders], ignore_index=True)
    write_table(kept.folder / "utility.parquet", found)
    show = found[(found["scope"] == "all") & (found["metric"] == "balanced_accuracy_difference")]
    print(show[["run", "split", "arm", "against", "value", "low", "high", "p_adjusted"]].to_string())
    unseen = found[(found["split"] == "unseen") & (found["scope"] == "all")]
    n, made = len(folders), {}
    for name, value in kept.json("stain-seconds", partial(stain_seconds, folders[0], most)).items():
        made[f"stain_{name}"] = figure([value], "CPU s per 1,000 patches", None, 1, "stained and embedded, 32 px")
    for metric, unit in (("balanced_accuracy", ""), ("gap_closed", "")):
        for arm, rows in unseen[unseen["metric"] == metric].groupby("arm", sort=False):
            made[f"{metric}_{arm}"] = figure(rows["value"], unit, None, n, "unseen combinations")
    gains = unseen[(unseen["metric"] == "balanced_accuracy_difference") & (unseen["arm"] == "medi")]
    for other, rows in gains.groupby("against", sort=False):
        target = "> 0" if other in FREE else None
        made[f"medi_minus_{other}"] = figure(rows["value"], "", target, n, "paired, unseen combinations")
        made[f"medi_minus_{other}_low"] = figure(
            rows["low"], "", target, n, "lower end of the 95 % interval over patients"
        )
        made[f"medi_minus_{other}_high"] = figure(rows["high"], "", None, n, "upper end")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["coverage", "speed", "runs"])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, default=Path("runs/utility"))
    parser.add_argument("--budget", type=float, default=float("inf"), help="CPU seconds of this process")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    kept = Kept(options.out, options.budget)
    parts: Mapping[str, Any] = {
        "coverage": lambda: coverage(10 if options.quick else 600),
        "speed": lambda: speed(kept, options.quick),
        "runs": lambda: runs(options.folders, kept, *((QUICK, 16) if options.quick else (PARTS, 1000))),
    }
    report("utility", parts[options.part](), ("numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
