"""Heads x training sets: how long they take on large embeddings, and what they reach on finished runs.

python benchmarks/heads.py [--run RUN ...] [--cohort wbc=TABLE ami_br=TABLE phantom=SEED ...] [--out FOLDER] [--quick]

Times are CPU seconds: run it with one thread (OMP_NUM_THREADS=1). speed: every head on real rows, with two synthetic
sets, each once more without its gap, and with the oracle's, 20,000 rows of 1,024 numbers. RUN, in place of that: a
finished run of `medi demo` or `medi run`, of which the table of sets by heads is printed, stain normalisation among the
sets, of real patches alone and of those that models add. Several runs also have means over runs. --cohort, in place of
both: the sets that need no generator on WBC, AMi-Br or phantom patches, of one hold-out fixed beforehand: real patches,
Macenko normalisation, pure noise, and the oracle, whose patches are those of held-out combinations of patients who do
not test. Spreads are 95 % intervals over patients (slides of AMi-Br, images of WBC); p is after Holm. The last line is
one JSON object.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import norm

import medi
from common import figure, report
from medi.api.given import embedded
from medi.cohort import phantom
from medi.cohort.certificate import ASIDE
from medi.cohort.rule import Rule
from medi.cohort.table import Cohort, concatenate
from medi.core.progress import Silent
from medi.core.set_names import parts_of
from medi.core.tables import HEADS as HEADS_TABLE
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Arm, Material, filtered
from medi.evaluation.classify.crossed import crossed, sets_of
from medi.evaluation.classify.heads import HEADS
from medi.evaluation.classify.noise import noise_arm
from medi.evaluation.classify.stained import stain_arms
from medi.evaluation.encoders import encoder
from medi.evaluation.splits import tested_parts
from medi.evaluation.statistics import holm
from medi.report.heads import by_head, heads_sentences
from medi.study.context import Study, reopen
from medi.study.measuring import added_patches, parts_of_utility, stained_of
from utility import OVER, cohort
from wbc import over_runs

ROWS, NUMBERS = 20_000, 1024
QUICK_ROWS, QUICK_NUMBERS = 800, 140
REAL_COHORTS = {  # how a table is read, and the combinations that are held out
    "wbc": (
        {"attributes": ["lab"]},
        [("neutrophil", "cellavision"), ("lymphocyte", "bccd"), ("monocyte", "tecom_motic")],
    ),
    "ami_br": (
        {"attributes": ["domain"], "patient": "slide", "mpp": 0.25},
        [
            ("atypical", "UMCU/Hamamatsu S360"),
            ("atypical", "UMCU/Aperio CS2"),
            ("normal", "UMCU/Hamamatsu XR"),
            ("normal", "TUPAC-B/Leica SCN400"),
        ],
    ),
}
QUICK_HEADS = ("logistic", "two_way")
ADDED = tuple(
    f"{name}{by}{gap}"
    for name in ("medi", "medi_filtered", "cls", "oracle", "style")
    for by in ("", "_macenko")
    for gap in ("", "_gap")
)
TOLD = {(arm, against) for arm in ADDED for against in ("real", "macenko", "style", "cls")}
HOLM = "all differences under a same head, or of the chosen ones"


@one_thread
def compared(material: Material, names: tuple[str, ...], more: Sequence[Arm] = ()) -> pd.DataFrame:
    """The table of all sets that the material makes, under these heads."""
    arms = [Arm("real", material.real)]
    arms += [Arm(name, material.real.join(rows)) for name, rows in material.synthetic.items()]
    if material.oracle is not None:
        arms.append(Arm("oracle", material.real.join(material.oracle)))
    arms += more
    asked: dict[str, Any] = {"over": material.over, "seed": 0, "seeds": (0,), "reference": material.reference}
    return crossed(sets_of(arms, material), material.tests, names, **asked)


def speed(rows: int, numbers: int, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """All heads and sets on made-up embeddings."""
    real, synthetic, oracle, tests = cohort(rows, numbers)
    start = time.process_time()
    found = compared(Material(real, synthetic, tests, OVER, oracle=oracle), names)
    minutes = (time.process_time() - start) / 60
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(by_head(found).round(3).to_string())
    fits = int((found["metric"] == "inner_recall").sum())
    return {
        "cpu": figure([minutes], "min", "<= 15", fits, f"heads x sets on {rows:,} x {numbers:,} embeddings"),
        "memory": figure([memory], "GiB", "<= 4", 1, "the largest resident size of the process"),
    }


def of_run(folder: Path, names: tuple[str, ...], quick: bool) -> pd.DataFrame:
    """The table of a finished run over all its test patches: its own, where its study asked for all these heads."""
    found = HEADS_TABLE.read(folder / "tables") if HEADS_TABLE.exists(folder / "tables") else pd.DataFrame({"head": []})
    if not set(names) <= set(found["head"]):
        found = again(reopen(folder), names, quick)
    print(f"\n{folder}\n{by_head(found).round(3).to_string()}", *heads_sentences(found), sep="\n", flush=True)
    return found[(found["split"] == "all") & found["value"].notna()].assign(run=folder.name)


def again(study: Study, names: tuple[str, ...], quick: bool) -> pd.DataFrame:
    """The table from the features of a run; `quick`: without stains and other models."""
    material = parts_of_utility(study)
    tests, added = list(material.tests), {} if quick else added_patches(study)
    stained = [] if quick else stained_of(study, material.real, tests, study.encoder(), added)
    if quick:
        material = replace(material, synthetic={"medi": material.synthetic["medi"]})
    made = [Arm("medi", material.real.join(material.synthetic["medi"]))]
    made += [arm for arm in stained if parts_of(arm.name)[0] == "medi"]
    made = [filtered(arm, len(material.real), material.over, material.seed) for arm in made]
    return compared(material, names, [*stained, *made])


def of_runs(tables: Sequence[pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Mean recalls and differences of one run, or their means over several, beside which the runs' own stand.

    Of a mean over runs the spread is the mean of the runs' intervals: that is not too narrow, however many test slides
    the runs share. Its p is that of a normal deviate with this interval, by Holm over the same family as in one run.
    """
    rows = pd.concat(tables, ignore_index=True)
    if len(tables) > 1:
        rows["p_mean"] = p_of_means(rows, len(tables))
    told = pd.Series([pair in TOLD for pair in zip(rows["arm"], rows["against"])])
    is_gap = rows["metric"].eq("mean_recall_difference") & told
    rows = rows[rows["metric"].eq("mean_recall") | is_gap]
    named = "_" + rows["arm"] + ("_less_" + rows["against"]).where(rows["against"] != "", "") + "_" + rows["head"]
    if len(tables) == 1:
        return {f"{row.run}{name}": _of_one(row) for row, name in zip(rows.itertuples(), named)}
    return {f"mean{name}": _of_several(part) for name, part in rows.groupby(named, sort=False)}


def p_of_means(rows: pd.DataFrame, runs: int) -> pd.Series:
    """p after Holm of each difference's mean over runs; NaN where a run lacks it. Half an interval is 1.96 errors."""
    gaps = rows[rows["metric"].eq("mean_recall_difference")]
    means = gaps.groupby(["head", "arm", "against"])[["value", "low", "high"]].agg(["mean", "count"])
    means = means[means[("value", "count")] == runs].xs("mean", axis=1, level=1)
    deviate = means["value"].abs() / ((means["high"] - means["low"]) / (2 * norm.isf(0.025)))
    chosen = means.index.get_level_values("head") == "chosen"
    found = pd.Series(index=means.index, dtype=float)
    for family in (chosen, ~chosen):
        found[family] = holm(2 * norm.sf(deviate[family].to_numpy()))
    keys = pd.MultiIndex.from_frame(rows[["head", "arm", "against"]])
    return pd.Series(found.reindex(keys).to_numpy(), index=rows.index)


def _of_one(row: Any) -> dict[str, Any]:
    found = _figure(row)
    return found | ({"against": f"p {row.p_adjusted:.3g}, Holm over {HOLM}"} if row.against else {})


def _of_several(rows: pd.DataFrame) -> dict[str, Any]:
    values = rows["value"].tolist()
    said = f"spread: mean of the runs' intervals; runs: {', '.join(f'{value:.4f}' for value in values)}"
    if rows["against"].iloc[0]:
        p = rows["p_mean"].iloc[0]
        said += over_runs(values) + (f"; p {p:.3g}, Holm over {HOLM}" if isfinite(p) else "; not in every run")
    found = figure(values, "", None, len(rows), said)
    return found | {"spread": rows[["low", "high"]].mean().round(4).tolist()}


def of_cohort(name: str, source: str, names: tuple[str, ...], out: Path) -> dict[str, dict[str, Any]]:
    """The sets that need no generator on a cohort, each less the real patches under each head."""
    cohort = drawn(int(source)) if name == "phantom" else held_out(name, Path(source), out / name)
    over = cohort.info["certificate"]["columns"]
    train, tests, aside = cohort.where(split="train"), tested_parts(cohort, over), cohort.where(split=ASIDE)
    extractor = encoder("colour-texture")
    rows = embedded({"real": train, "aside": aside, **tests}, extractor, out / "cache", Silent())
    material = Material(rows["real"], {}, {key: rows[key] for key in tests}, over, oracle=rows["aside"])
    more = stain_arms(train, rows["real"], tests, extractor, 0, ["macenko"])
    more.append(noise_arm(rows["real"], rows["aside"], train, extractor, 0))
    found = compared(material, names, more)
    print(f"\n{name} {source}: {len(train)} patches train\n{by_head(found).round(3).to_string()}", flush=True)
    whole = found[(found["split"] == "all") & found["value"].notna()]
    kind = f"{name}{source}" if name == "phantom" else name
    figures = {
        f"{kind}_{row.arm}_{row.head}": _figure(row) for row in whole[whole["metric"] == "mean_recall"].itertuples()
    }
    for row in whole[whole["metric"] == "mean_recall_difference"].itertuples():
        figures[f"{kind}_{row.arm}_less_real_{row.head}"] = _figure(row) | {"against": f"p {row.p_adjusted:.3g}, Holm"}
    return figures


def held_out(name: str, table: Path, folder: Path, held: Sequence[tuple[str, str]] = ()) -> Cohort:
    """A packed real cohort: patients are shared first, held-out patches of those who train are set aside.

    held: the combinations, by default those of `REAL_COHORTS`.
    """
    options, usual = REAL_COHORTS[name]
    mode: dict[str, Any] = {"mode": "crop", "mpp": 0.5} if name == "ami_br" else {}
    packed = medi.read(table, **options).pack(folder, size=32, **mode)
    over = ("class", *options["attributes"])
    rule = Rule("named", over, held=tuple(held or usual), test_seen=0.4, validation=0, reserve=0, set_aside=True)
    return packed.hold_out(rule=rule)


def drawn(seed: int, patches: int = 4_000, each: int = 40) -> Cohort:
    """The phantom of a seed with a third of its combinations held out, and fresh patches that test or are set aside.

    each: test patches of a combination; half as many more are set aside.
    """
    whole = medi.phantom(patches=patches, seed=seed)
    held = whole.hold_out(over=OVER, seed=seed, test_seen=0, validation=0, reserve=0)
    train = held.where(split="train")
    seen = set(train.table[list(OVER)].itertuples(index=False, name=None))
    parts = {"test_seen": sorted(seen), "test_unseen": sorted(set(phantom.COMBINATIONS) - seen)}
    more = [phantom.fresh(pairs, each, seed, "test").with_columns(split=name) for name, pairs in parts.items()]
    more.append(phantom.fresh(parts["test_unseen"], each * 3 // 2, seed, "oracle").with_columns(split=ASIDE))
    joined = concatenate([train, *more])
    return replace(joined, info={**joined.info, "certificate": held.info["certificate"]})


def _figure(row: Any) -> dict[str, Any]:
    found = figure([row.value], "", None, int(row.n_patients), "mean recall over combinations, the same head")
    return found | {"spread": [round(row.low, 4), round(row.high, 4)]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, nargs="*", default=[])
    parser.add_argument("--cohort", nargs="*", default=[], metavar="NAME=TABLE")
    parser.add_argument("--out", type=Path, default=Path("runs/heads"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    names = QUICK_HEADS if asked.quick else tuple(HEADS)
    rows, numbers = (QUICK_ROWS, QUICK_NUMBERS) if asked.quick else (ROWS, NUMBERS)
    figures = {} if (asked.run or asked.cohort) and not asked.quick else speed(rows, numbers, names)
    for name, source in (given.split("=", 1) for given in asked.cohort):
        if name == "phantom" or Path(source).exists():
            figures |= of_cohort(name, source, names, asked.out)
        else:
            print(f"{name}: {source} is not there; passed over")
    if asked.run:
        figures |= of_runs([of_run(folder, names, asked.quick) for folder in asked.run])
    report("heads", figures, ["numpy", "scipy", "scikit-learn"])


if __name__ == "__main__":
    main()
