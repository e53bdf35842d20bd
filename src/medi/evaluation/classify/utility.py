"""Does it make the classifier better? One probe on frozen embeddings per training set, tested where none has trained.

Every arm gets the same head; intervals resample patients, the same draws for all arms (P9), so that
differences are paired. `comparison.study_arms` compares synthetic sets with every baseline.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from medi.cohort.table import slide_units
from medi.core.errors import MediError, did_you_mean
from medi.core.progress import Advance, unheard
from medi.core.seeds import generator
from medi.core.set_names import parts_of
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.heads.contract import Classifier
from medi.evaluation.classify.logistic import solve
from medi.evaluation.classify.probes import HEADS, Pool, Probe, codes, groups, is_real, text
from medi.evaluation.classify.scores import Answers, robustness_index
from medi.evaluation.classify.scoring import CHANCE, EVERY, MEDI, REAL, Scorer, pairs_of
from medi.evaluation.features import Embedded, is_constant, lacks
from medi.evaluation.robustness import near_figures
from medi.evaluation.splits import check_apart
from medi.evaluation.statistics import holm

FIRST = ("metric", "arm", "against", "split", "scope")
COUNTS = ("n_real", "n_synthetic", "n_slides", "n_patients", "n_train")
QUERIES = 800  # patches behind the figures of neighbours, for each space of embeddings
LAST = ("value", "low", "high", *COUNTS, "panel", "p_value", "p_adjusted", "reason")

Probes = list[Probe | None]  # one per seed; None where one class trains


@dataclass(frozen=True)
class Fitted:
    """An arm's probes, one per seed, and how many rows trained each."""

    probes: Probes
    rows: int


@one_thread
def evaluate(
    arms: Sequence[Arm],
    tests: Mapping[str, Embedded],
    *,
    seed: int,
    over: Sequence[str] = ("class", "site"),
    seeds: Sequence[int] | None = None,
    head: str = "tuned",
    attributes: Sequence[str] = (),
    compared: Sequence[str] = (MEDI,),
) -> pd.DataFrame:
    """Train the probe on each arm and test it on each split ("seen", "unseen"): one tidy row per figure.

    The split "all" has the patches of all splits, with the primary endpoint "mean_recall" (mean recall over all
    combinations alike) and "chance", what the columns beside the class reach without an image.
    Scope "all": every measure of `scores.OVERALL`, "site_readability", gaps over each column but the class and over
    `attributes` (scope: the column), and on "unseen" "gap_closed" = (arm - real) / (oracle - real). Also
    "<metric>_difference" of each arm in `compared` against every other (`scoring.pairs_of`), with p-values by Holm over
    those that it meets. Then "balanced_accuracy" within each level of the columns `over`, "recall" per class and
    combination, and "robustness_index" with `robustness.NEAR` of each space of embeddings. low, high: 95 % from
    resampled patients. n_real counts test patches, n_synthetic synthetic training rows. seeds: of folds and draws, the
    mean over all. MediError where a patient, slide or patch trains and tests, or an embedding is not finite (P5).
    """
    check(arms, tests, over, attributes)
    fitted = fit_arms(arms, over, seeds or (seed,), head)
    return measure(arms, fitted, tests, over=over, seed=seed, attributes=attributes, compared=compared)


def measure(
    arms: Sequence[Arm],
    fitted: Mapping[str, Fitted],
    tests: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    seed: int,
    attributes: Sequence[str] = (),
    compared: Sequence[str] = (MEDI,),
) -> pd.DataFrame:
    """The table of `evaluate` from probes that are fitted."""
    counts = {
        arm.name: {"n_train": fitted[arm.name].rows, "n_synthetic": synthetic_rows(arm), "panel": arm.panel}
        for arm in arms
    }
    counts[CHANCE] = {"n_train": 0, "n_synthetic": 0, "panel": ""}
    rows: list[dict[str, object]] = []
    pairs = pairs_of([arm.name for arm in arms], compared)
    every = next(iter(tests.values())).join(*list(tests.values())[1:])
    tested = [tested_on_every(arm, tests) for arm in arms]
    for split, test in (*tests.items(), (EVERY, every)):
        answers = {arm.name: answers_of(fitted[arm.name].probes, arm, split, test, over) for arm in tested}
        lacking = {arm.name: missing(arm, fitted[arm.name].probes, test.table) for arm in arms}
        scorer = Scorer(split, test.table, answers, lacking, seed, tuple(over), tuple(attributes), pairs)
        found = scorer.overall() if split == EVERY else scorer.rows()
        rows += [row | counts[str(row["arm"])] for row in found]
    rows += [row | counts[str(row["arm"])] for row in _robustness(arms, tests, over, seed)]
    labels = list(over)
    table = pd.DataFrame(rows)
    table = table.assign(**dict.fromkeys((name for name in labels if name not in table), ""))  # where none is known
    return adjusted(table.reindex(columns=[*FIRST, *labels, *LAST]).fillna(dict.fromkeys([*labels, "reason"], "")))


def tested_on_every(arm: Arm, tests: Mapping[str, Embedded]) -> Arm:
    """The arm, whose own embeddings of the tests are also there for all of them together."""
    if arm.tests is None:
        return arm
    return replace(arm, tests={**arm.tests, EVERY: np.concatenate([arm.tests[split] for split in tests])})


def fit_arms(
    arms: Sequence[Arm],
    over: Sequence[str],
    seeds: Sequence[int],
    head: str,
    progress: Advance = unheard,
) -> dict[str, Fitted]:
    """The probes of each arm, one per seed. Arms of one matrix share its factors; progress: arms done, of how many."""
    check_head(head)
    shared: dict[tuple[int, int], Pool] = {}
    found: dict[str, Fitted] = {}
    for arm in arms:
        found[arm.name] = _fit(arm, shared, over, seeds, head)
        progress(len(found), len(arms))
    return found


def check_head(head: str) -> None:
    """Refuse a head that is not known."""
    if head not in HEADS:
        raise MediError(f"head {head!r} is unknown; known: {', '.join(HEADS)}{did_you_mean(head, HEADS)}")


def _fit(arm: Arm, shared: dict[tuple[int, int], Pool], over: Sequence[str], seeds: Sequence[int], head: str) -> Fitted:
    if lacks_classes(arm):
        return Fitted([None for _ in seeds], int(arm.chosen.sum()))
    place = id(arm.rows), id(arm.trains)
    if place not in shared:
        shared.clear()  # arms of one matrix follow one another
        shared[place] = Pool.of(arm.rows, over=over, trains=arm.trains, standardise=head == "tuned")
    pools = [prepared(arm, shared[place], seed) for seed in seeds]
    if head != "tuned" and any(pool.solver is not solve for pool in pools):
        raise MediError(f"{arm.name} has an objective of its own, which only the head tuned can have; leave it out")
    return Fitted([HEADS[head](pool) for pool in pools], round(pools[0].weights.sum(axis=1).mean()))


def prepared(arm: Arm, pool: Pool, seed: int) -> Pool:
    """The pool of one seed: patients dealt to folds, then the arm's method."""
    return arm.method(pool.dealt(arm.table, seed), generator("arm", seed, arm.name))


def lacks_classes(arm: Arm) -> str:
    """Why an arm has no probe, "" where it has one."""
    classes = arm.table["class"][arm.chosen].nunique()
    if not arm.reason and is_constant(arm.embeddings):
        return f"{arm.name}'s features are the same in all rows: no probe"
    return arm.reason or (f"{arm.name} trains on {classes} class: no probe" if classes < 2 else "")


def check(
    arms: Sequence[Arm], tests: Mapping[str, Embedded], over: Sequence[str], attributes: Sequence[str] = ()
) -> None:
    """Refuse what cannot be compared: lacking columns, numbers that are none, and rows that train and test (P5)."""
    needed = {"sample_id", "patient", "slide", "class", *over}
    for arm in arms:
        _check_set(arm.name, arm.rows, needed, over)
        if arm.tests is not None and set(arm.tests) != set(tests):
            raise MediError(f"{arm.name} embeds the tests {', '.join(arm.tests)}, but there are {', '.join(tests)}")
        for split, moved in (arm.tests or {}).items():
            _check_set(f"{arm.name}'s {split}", Embedded(moved, tests[split].table), needed, over)
    for name, test in tests.items():
        _check_set(name, test, needed | set(attributes), over)
    for arm in arms:
        for split, test in tests.items():
            check_apart(arm.table, test.table, f" in arm {arm.name}", f" in {split}")


def _check_set(name: str, rows: Embedded, needed: set[str], over: Sequence[str]) -> None:
    if lacking := needed - set(rows.table.columns):
        raise lacks(name, sorted(lacking), over, rows.table)
    broken = ~rows.whole
    if broken.any():
        first = rows.table["sample_id"].iloc[int(broken.argmax())]
        raise MediError(f"{name}: {broken.sum()} embeddings are not finite, first of {first!r}; mend or drop them")


def answers_of(
    probes: Sequence[Classifier | None], arm: Arm, split: str, test: Embedded, over: Sequence[str]
) -> Answers:
    """What the probes say, the mean over seeds; NaN for rows of classes that they do not know."""
    embeddings, table = test.features if arm.tests is None else arm.tests[split], test.table
    known = [probe for probe in probes if probe is not None]
    labels = text(table["class"])
    classes = sorted({*labels, *(name for probe in known for name in probe.classes)})
    index = {name: number for number, name in enumerate(classes)}
    votes, probabilities = np.zeros((2, len(labels), len(classes)))
    for probe in known:
        columns = [index[name] for name in probe.classes]
        found = probe.probabilities(embeddings, table)
        probabilities[:, columns] += found / len(known)
        votes[np.arange(len(labels)), np.array(columns)[found.argmax(axis=1)]] += 1 / len(known)
    votes[~np.isin(labels, known[0].classes if known else [])] = np.nan
    return Answers(np.array([index[name] for name in labels]), votes, probabilities, codes(table, over))


def missing(arm: Arm, probes: Sequence[Classifier | None], test: pd.DataFrame) -> str:
    """What limits an arm's figures on a test: no probe, its reason, or classes that only one of both has."""
    probe = probes[0]
    if probe is None:
        return lacks_classes(arm)
    found = set(test["class"])
    notes = [probe.reason]
    notes += [f"class {name} is not in {arm.name}'s training rows" for name in sorted(found - set(probe.classes))]
    notes += [f"class {name} is not in the test" for name in sorted(set(probe.classes) - found)]
    return "; ".join(filter(None, notes))


def synthetic_rows(arm: Arm) -> int:
    """How many synthetic rows train."""
    return int((~is_real(arm.table) & arm.chosen).sum())


def _robustness(
    arms: Sequence[Arm], tests: Mapping[str, Embedded], over: Sequence[str], seed: int
) -> Iterator[dict[str, object]]:
    """How robust the embeddings are as they are (arm "real") and as an arm makes them, over all test rows."""
    table = pd.concat([test.table for test in tests.values()], ignore_index=True)
    if len(over) < 2:
        return
    slides = slide_units(table)
    sizes = {"n_real": len(table), "n_slides": slides.nunique(), "n_patients": groups(table).nunique()}
    for arm in arms:
        is_normalised_again = bool(parts_of(arm.name)[1])  # its tests are those of the normalisation alone
        if arm.name == REAL or (arm.tests is not None and not is_normalised_again):
            moved = [tests[split].features if arm.tests is None else arm.tests[split] for split in tests]
            whole = Embedded(np.concatenate(moved), table)
            index = robustness_index(whole.features, table, over, seed)
            near = near_figures(whole, over, most=QUERIES, seed=seed)
            for found in ({"metric": "robustness_index"} | vars(index), *map(vars, near)):
                yield {"arm": arm.name, "against": "", "split": "", "scope": "all"} | found | sizes


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """p-values adjusted over what an arm is compared with, for each metric and split."""
    differences = table["p_value"].notna()
    for _, rows in table[differences].groupby(["metric", "split", "arm"]):
        table.loc[rows.index, "p_adjusted"] = holm(rows["p_value"].to_numpy(dtype=np.float64))
    return table
