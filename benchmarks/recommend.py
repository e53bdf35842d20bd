"""How good is the choice of `medi recommend`? Its regret on true hold-outs, beside that of fixed choices.

python benchmarks/recommend.py [--worlds 8] [--holdouts 6] [--wbc TABLE] [--amibr TABLE] [--with-models] [--quick]

Worlds: phantom cohorts of seeds from 300 on, each with one hold-out. Of the real cohorts several hold-outs are drawn,
by seeds from 300 on; with models those of WBC are the four that `benchmarks/wbc.py` keeps for confirmation. Per
hold-out every remedy that needs no generator is judged on combinations and patients of training that are left out; then
the true hold-out is opened. Regret: the best remedy's mean recall over all combinations there, less that of the choice.
The soft vote of the better half is a remedy among them; `choice_single` is the regret against the best of the others,
and below 0 where the choice is better than each. Beside it the regret of always taking Macenko normalisation, and of
real images, both under the logistic head, and that of the remedy that is best on average over these hold-outs, which
nobody knows before. With --with-models MeDi is judged too, as it is and after Macenko normalisation, by models of the
inner hold-outs, and trained on the whole training set for the regret: as `benchmarks/worlds.py` trains and samples it.
`seconds`: of one choice, in processor seconds, with its embedding, normalisation and models. --first: the first seed;
those below 300 served for development. The last line is one JSON object; spreads are over hold-outs.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import medi
from common import figure, report
from heads import held_out
from medi.api.recommending import Recommendation
from medi.cohort.table import Cohort
from medi.core.choice import VOTE
from medi.core.errors import MediError
from wbc import holdouts

FIRST = 300  # seeds that chose nothing before
FILLED, STEPS = 100, 12  # real and sampled images of a combination together, and steps of the sampler
OVER = ["class", "site"]
CONFIRMING = list(enumerate(holdouts()))[2:]  # of WBC
SETS = ("real", "macenko", "medi", "medi_macenko")
Cohorts = Iterator[tuple[str, Cohort]]


def worlds(count: int, patches: int, first: int) -> Cohorts:
    """Phantom cohorts with a fifth of their combinations held out."""
    for seed in range(first, first + count):
        cohort = medi.phantom(patches=patches, seed=seed)
        yield f"phantom {seed}", cohort.hold_out(over=OVER, rate=0.2, seed=seed, min_patients=1)


def real(name: str, packed: Cohort, over: list[str], count: int, first: int) -> Cohorts:
    """The same patches with hold-outs of several seeds; a hold-out that cannot be drawn is passed over."""
    for seed in range(first, first + count):
        try:
            yield f"{name} {seed}", packed.hold_out(over=over, rate=0.2, seed=seed, min_patients=1)
        except MediError as error:
            print(f"{name} {seed}: {error}", flush=True)


def models_of(options: argparse.Namespace, name: str) -> medi.InnerModels | None:
    """The models of one hold-out, where they are asked for."""
    if not options.with_models:
        return None
    folder = options.out / "models" / name.replace(" ", "-")
    preset, images = ("tiny", 32) if options.quick else ("laptop32", options.images)
    draws, to, steps = (1, 10, 1) if options.quick else (options.draws, FILLED, STEPS)
    return medi.InnerModels.of(folder, preset=preset, images=images, to=to, draws=draws, steps=steps)


def regrets(name: str, found: Recommendation, seconds: float) -> dict[str, object]:
    judged, best = found.judged, found.judged.table["true"].max()
    always = {key: judged.row(key, "logistic") for key in SETS}
    line: dict[str, object] = {"name": name, "seconds": seconds, "choice": judged.regret, "best": best}
    line["choice_single"] = judged.regret - best + judged.table.loc[judged.table["head"] != VOTE, "true"].max()
    for key, row in always.items():
        line[key] = np.nan if row is None else best - row["true"]
    chosen = judged.chosen
    line["chosen"] = "" if chosen is None else f"{chosen['set']}, {chosen['head']}"
    line |= {f"{row.set}, {row.head}": best - row.true for row in judged.table.itertuples()}
    return line


def figures(lines: pd.DataFrame) -> Iterator[tuple[str, dict[str, object]]]:
    kinds = lines["name"].str.split().str[0]
    for kind, part in [("all", lines), *lines.groupby(kinds)]:
        for name in ("choice", "choice_single", *SETS):
            values = part[name].dropna().tolist()
            if values:
                target = "<= 0.02" if (kind, name) == ("all", "choice") else None
                yield (
                    f"{kind}_regret_{name}",
                    figure(values, "", target, len(values), "best remedy of all"),
                )
        others = part[[column for column in part if ", " in column]].dropna(axis=1)
        if len(others.columns):
            steady = others.mean().idxmin()
            yield f"{kind}_regret_best_on_average", figure(others[steady].tolist(), "", None, len(part), str(steady))
    free = bool(lines["medi"].isna().all())  # without models
    yield (
        "seconds",
        figure(lines["seconds"].tolist(), "processor s", "<= 60" if free else None, len(lines), "one choice"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--holdouts", type=int, default=6)
    parser.add_argument("--patches", type=int, default=3_000)
    parser.add_argument("--wbc", type=Path, help="the table of WBC")
    parser.add_argument("--amibr", type=Path, help="the table of AMi-Br")
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--with-models", action="store_true", help="judge MeDi as well")
    parser.add_argument("--images", type=int, default=25_000, help="training images of each model")
    parser.add_argument("--draws", type=int, default=4, help="inner hold-outs that are asked with models")
    parser.add_argument("--out", type=Path, default=Path("runs/recommend"))
    parser.add_argument("--quick", action="store_true", help="one small world, one head")
    options = parser.parse_args()
    cohorts = [worlds(1, 400, 0) if options.quick else worlds(options.worlds, options.patches, options.first)]
    if options.wbc and options.with_models:
        cohorts.append((f"wbc {i}", held_out("wbc", options.wbc, options.out / "wbc", held)) for i, held in CONFIRMING)
    elif options.wbc and not options.quick:
        packed = medi.read(options.wbc, attributes=["lab"]).pack(options.out / "wbc", size=32)
        cohorts.append(real("wbc", packed, ["class", "lab"], options.holdouts, options.first))
    if options.amibr and not options.quick:
        packed = medi.read(options.amibr, attributes=["domain"]).pack(options.out / "amibr", size=32)
        cohorts.append(real("amibr", packed, ["class", "domain"], options.holdouts, options.first))
    lines = []
    for name, cohort in (pair for some in cohorts for pair in some):
        heads, over = (["logistic"] if options.quick else []), cohort.info["certificate"]["columns"]
        models, began = models_of(options, name), time.process_time()
        found = medi.recommend(
            cohort, over=over, heads=heads, with_models=models, open_holdout=True, cache=options.out / "cache"
        )
        lines.append(regrets(name, found, time.process_time() - began))
        print(f"{name}: regret {lines[-1]['choice']:.3f} ({lines[-1]['chosen']})", flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(lines).to_csv(options.out / "regrets.csv", index=False)
    report("recommend", dict(figures(pd.DataFrame(lines))), ["numpy", "scikit-learn"])


if __name__ == "__main__":
    main()
