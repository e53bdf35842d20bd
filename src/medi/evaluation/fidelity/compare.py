"""Are synthetic images distributed like real ones? Distances at equal n, beside the real floor (P8).

Per combination, as the balanced plan has it, and per class with every set drawn at the real site marginal (the
paper's Figure 3). `matching` draws the rows, `measures` measures, this module makes the table.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from jaxtyping import Bool
from threadpoolctl import threadpool_info, threadpool_limits

from medi.cohort.table import slide_units
from medi.core.progress import Advance, Tally, unheard
from medi.core.seeds import generator
from medi.core.tables import DIFFERENCE
from medi.core.threads import cores
from medi.evaluation.features import FLOOR, REAL, Embedded, placed
from medi.evaluation.fidelity.matching import (
    Combination,
    Matching,
    Slides,
    Target,
    level_targets,
)
from medi.evaluation.fidelity.measures import Pair, Result, difference, guarded, measure, metrics
from medi.evaluation.fidelity.paired import LeftOut, Stratum, frechet_difference
from medi.evaluation.statistics import Estimate, holm

DRAWS = 1000
COMBINATION = "combination"  # scope of one; and of their mean, with "_mean"
FIRST = ("metric", "encoder", "scope", "arm", "against")
LAST = ("split", "value", "low", "high", "p_value", "p_adjusted", "n_real", "n_synthetic", "reason")


def per_combination(
    real: Embedded,
    floor: Embedded,
    synthetic: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    n: int,
    seed: int,
    encoder: str,
    held_out: Collection[Combination] = (),
    draws: int = DRAWS,
    progress: Advance = unheard,
) -> pd.DataFrame:
    """All measures of `floor` (other real patches) and of each arm against `real`, in every combination of `over`.

    Each combination is compared at one n for all: the smallest supply, at most `n`. Rows: the metrics of
    `measures.metrics` (scope "combination", and "combination_mean" per split), without intervals; and differences of
    arms ("frechet_difference", an arm against another; recall and coverage also against the floor) with a 95 %
    interval for the difference that sets of this n show on average, from `draws` joint resamples of real slides and
    synthetic images. p_adjusted is Holm's over the rows of one metric and scope. `split` is "unseen" for combinations
    in `held_out`. Undefined is NaN with a reason; other reasons are warnings (`measures.withheld`).
    """
    matching = Matching.of({REAL: real, FLOOR: floor, **synthetic}, over, n, seed)
    combinations = sorted(set().union(*matching.positions.values()))
    held = set(held_out)
    targets = [
        Target(dict(zip(over, combination)), {combination: 1.0}, "unseen" if combination in held else "seen")
        for combination in combinations
    ]
    return _table(matching, targets, COMBINATION, encoder, draws, progress)


def per_class(
    real: Embedded,
    floor: Embedded,
    synthetic: Mapping[str, Embedded],
    marginal: pd.DataFrame,
    *,
    n: int,
    seed: int,
    encoder: str,
    column: str = "class",
    draws: int = DRAWS,
    progress: Advance = unheard,
) -> pd.DataFrame:
    """Measures per class (or level of another `column`), all sets drawn at the shares of `marginal`.

    marginal: columns class, attributes, share (of the real or the training rows).

    n is the largest number, at most `n`, that every set can supply at these shares. Rows as in `per_combination`,
    with scopes "class" and "class_mean" (the column's name).
    """
    over = [name for name in marginal.columns if name != "share"]
    matching = Matching.of({REAL: real, FLOOR: floor, **synthetic}, over, n, seed)
    return _table(matching, list(level_targets(marginal, over, column)), column, encoder, draws, progress)


def distances(
    real: Embedded,
    floor: Embedded,
    synthetic: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    training: pd.DataFrame,
    n: int,
    seed: int,
    encoder: str,
    levels: Sequence[str] = ("class",),
    held_out: Collection[Combination] = (),
    draws: int = DRAWS,
    progress: Advance = unheard,
) -> pd.DataFrame:
    """`per_combination`, and `per_class` for each column of `levels` at the shares of the rows `training`.

    training: the table of the training patches, or of all real patches where nothing was held out. Per level only the
    combinations that it has count, so that the levels of all sets are mixed as a classifier would meet them. Patches
    whose level is not known in one of the columns are of no combination and left out; the means say how many.
    """
    training = training[placed(training, over)]
    shares = training.groupby(list(over)).size()
    marginal = (shares / shares.sum()).rename("share").reset_index()
    sets = (real, floor, *synthetic.values())
    tables = [rows.table[placed(rows.table, over)] for rows in sets]
    combinations = set().union(*(set(table[list(over)].itertuples(index=False, name=None)) for table in tables))
    tally = Tally(progress, len(combinations) + sum(marginal[column].nunique() for column in levels))
    parts = [
        per_combination(
            real,
            floor,
            synthetic,
            over=over,
            held_out=held_out,
            n=n,
            seed=seed,
            encoder=encoder,
            draws=draws,
            progress=tally.part(),
        ),
        *(
            per_class(
                real,
                floor,
                synthetic,
                marginal,
                column=column,
                n=n,
                seed=seed,
                encoder=encoder,
                draws=draws,
                progress=tally.part(),
            )
            for column in levels
        ),
    ]
    return pd.concat(parts, ignore_index=True)


def halves(table: pd.DataFrame, over: Sequence[str], seed: int) -> Bool[np.ndarray, " n"]:
    """Which rows are in the first of two halves without a common slide, every combination shared out evenly.

    Slides are dealt from the largest, each to the half that lacks its combinations; rows without a slide stand alone.
    """
    slides = slide_units(table)
    combinations = table.groupby(list(over), sort=True).ngroup()
    counts = pd.crosstab(slides, combinations)
    order = generator("halves", seed).permutation(len(counts))
    order = order[np.argsort(-counts.to_numpy().sum(axis=1)[order], kind="stable")]
    lead, first = np.zeros(counts.shape[1]), {}
    for slide, row in zip(counts.index[order], counts.to_numpy()[order]):
        first[slide] = bool(lead @ row <= 0)
        lead += row if first[slide] else -row
    return slides.map(first).to_numpy(dtype=bool)


def _table(
    matching: Matching, targets: Sequence[Target], scope: str, encoder: str, draws: int, progress: Advance
) -> pd.DataFrame:
    results, slides = _results(matching, targets, draws, progress)
    rows = [row for result in results for row in _result_rows(result, scope)]
    for split in sorted({target.split for target in targets}):
        means = _mean_rows([result for result in results if result.target.split == split], slides, scope, draws)
        rows += [_noting(row, matching.left_out) for row in means] if scope == COMBINATION else means
    table = pd.DataFrame(rows).assign(encoder=encoder, p_adjusted=np.nan)
    compared = table["metric"].str.endswith(DIFFERENCE) | table["metric"].eq("mmd2")
    adjusted = table[compared].groupby(["metric", "scope"])["p_value"].transform(lambda p: holm(p.to_numpy()))
    table.loc[compared, "p_adjusted"] = adjusted
    labels = [column for column in table.columns if column not in (*FIRST, *LAST)]
    return table[[*FIRST, *labels, *LAST]].fillna(dict.fromkeys(labels, ""))


def _results(
    matching: Matching, targets: Sequence[Target], draws: int, progress: Advance
) -> tuple[list[Result], Slides]:
    """Each target measured, on as many threads as the linear algebra would use, one of its own for each."""
    drawn = [matching.draw(target) for target in targets]
    table = matching.sets[REAL].table
    rows = [part[REAL].rows if part else np.empty(0, dtype=np.int64) for part in drawn]
    used = np.concatenate([np.empty(0, dtype=np.int64), *rows])
    own = list(targets[0].labels) if targets else []
    combinations = list(table[own].iloc[used].itertuples(index=False, name=None))
    names = slide_units(table).iloc[used].astype(str).tolist()
    slides = Slides.of(names, combinations)
    linked = Slides.of(names, np.repeat(np.arange(len(rows)), [len(part) for part in rows]).tolist())
    threads = max([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"], default=1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(threads, cores())) as pool:
        found = pool.map(lambda pair: measure(matching, pair[0], pair[1], slides, linked, draws), zip(targets, drawn))
        results = []
        for result in found:
            results.append(result)
            progress(len(results), len(targets))
    return results, slides


def _result_rows(result: Result, scope: str) -> Iterator[dict[str, object]]:
    place: dict[str, object] = {"scope": scope, **result.target.labels, "split": result.target.split}
    size = {"n_real": result.n, "n_synthetic": result.n}
    for arm, found in result.values.items():
        yield from _figures((arm, ""), place | size, found)
    for pair, gaps in result.differences.items():
        yield from _figures(pair, place | size, gaps, DIFFERENCE)


def _mean_rows(results: Sequence[Result], slides: Slides, scope: str, draws: int) -> Iterator[dict[str, object]]:
    """Means over the targets in which every synthetic arm is defined, so that all are averaged over the same ones."""
    whole = [r for r in results if all(np.isfinite(r.values[a]["frechet"].value) for a in r.values if a != FLOOR)]
    place: dict[str, object] = {"scope": f"{scope}_mean", "split": results[0].target.split}
    size = dict.fromkeys(("n_real", "n_synthetic"), sum(r.n for r in whole))
    values = {
        arm: {metric: _mean([r.values[arm][metric].value for r in whole], len(results)) for metric in metrics()}
        for arm in results[0].values
    }
    gaps = {
        pair: {metric: _mean_gap(whole, pair, metric, slides, len(results), draws) for metric in found}
        for pair, found in results[0].differences.items()
    }
    for arm, found in values.items():
        yield from _figures((arm, ""), place | size, found)
    for pair, found in guarded(values, gaps).items():
        yield from _figures(pair, place | size, found, DIFFERENCE)


def _noting(row: dict[str, object], note: str) -> dict[str, object]:
    """A row with this note before its reason."""
    return row | {"reason": "; ".join(filter(None, (note, str(row["reason"]))))}


def _figures(
    pair: Pair, place: Mapping[str, object], found: Mapping[str, Estimate], kind: str = ""
) -> Iterator[dict[str, object]]:
    """A row per metric; `kind` is added to its name."""
    for metric, estimate in found.items():
        yield {"metric": f"{metric}{kind}", "arm": pair[0], "against": pair[1], **place, **vars(estimate)}


def _mean_gap(results: Sequence[Result], pair: Pair, metric: str, slides: Slides, of: int, draws: int) -> Estimate:
    """The mean difference, with an interval of what all targets of a stratum of slides have in common."""
    defined = [r for r in results if np.isfinite(r.differences[pair][metric].value)]
    found = _mean([r.differences[pair][metric].value for r in defined], of)
    if not defined:
        return found
    if metric == "frechet":
        return frechet_difference(found.value, _strata(defined, pair), draws).noting(found.reason)
    names = frozenset().union(*(r.slides for r in results))
    drawn = np.mean([r.draws[pair][metric] for r in defined], axis=0)
    return difference(found.value, drawn, slides.degrees(names)).noting(found.reason)


def _strata(results: Sequence[Result], pair: Pair) -> list[Stratum]:
    """Of results that share slides their share of all results and the mean distances of both arms; none where a result
    has a single slide."""
    if not all(set(pair) <= set(r.left) for r in results):
        return []
    members = [[r for r in results if r.linked == first] for first in sorted({r.linked for r in results})]
    means = [[LeftOut.mean([r.left[arm] for r in each]) for arm in pair] for each in members]
    return [(len(each) / len(results), first, second) for each, (first, second) in zip(members, means)]


def _mean(values: Sequence[float], of: int) -> Estimate:
    defined = [value for value in values if np.isfinite(value)]
    skipped = f"{of - len(defined)} of {of} undefined and left out" if len(defined) < of else ""
    return Estimate(float(np.mean(defined)) if defined else np.nan, reason=skipped)
