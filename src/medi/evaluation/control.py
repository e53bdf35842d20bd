"""Does a sample show what was asked for? Probes of class and attributes, trained on real images only, look at it.

Also: with the noise kept and one attribute changed, does the class survive? And can synthetic images be told from
real ones at all? All on embeddings; probes are fitted on real training patches and tested on other patients (P5).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64, Shaped
from sklearn.linear_model import LogisticRegression

from medi.cohort.table import slide_units
from medi.core.errors import MediError
from medi.core.seeds import Key, generator
from medi.core.tables import CROSSED, PROBE, TRAINING
from medi.core.threads import one_thread
from medi.evaluation.classify.probes import Probe
from medi.evaluation.features import REAL, Embedded, check_sets, placed, scales
from medi.evaluation.fidelity.matching import Combination
from medi.evaluation.statistics import Estimate, cluster_bootstrap, cluster_counts, cluster_index, interval

DRAWS = 1000
DETECTOR_DRAWS = 200  # each sorts all rows
FOLDS = 4  # of the detector
MIN_ROWS = 20  # of each side, for a detector
PENALTY = 0.1  # C of the detector: embeddings of hundreds of numbers, hundreds of rows
FIRST = ("metric", "encoder", PROBE, "arm", "against", "attribute", "scope")
LAST = ("split", "value", "low", "high", "n_real", "n_synthetic", "reason")
Labels = Shaped[np.ndarray, " n"]  # text objects
Mask = Bool[np.ndarray, " n"]
Row = dict[str, object]


@dataclass(frozen=True)
class Control:
    """Two tidy tables: `figures` (as_asked, class_kept, detectability) and `confusion` (requested by recognised)."""

    figures: pd.DataFrame
    confusion: pd.DataFrame


@dataclass(frozen=True)
class _Seen:
    """One arm under one probe: for each row what was requested, what is recognised, its place and what it hangs on."""

    arm: str
    attribute: str
    requested: Labels
    recognised: Labels
    table: pd.DataFrame  # class, attributes and split of the rows that the probe can judge
    clusters: list[str]
    reason: str


@one_thread
def control(
    train: Embedded | None,
    test: Embedded,
    synthetic: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    seed: int,
    encoder: str,
    held_out: frozenset[Combination] = frozenset(),
    crossed: Embedded | None = None,
) -> Control:
    """Probe of every column in `over`, trained on `train`, on each arm and on real patches `test` (arm "real").

    crossed: real patches of every combination, where there are any. Probes of these are not biased: they stand beside
    the probes of `train` (column `probe`: "crossed", "training", "" for a figure without a probe). Either of the two
    may be left out, not both.

    Metric "as_asked": the share of images in which the probe sees the requested level, per combination ("combination")
    and averaged over combinations ("all", and per level: the column's name as scope). The real arm's value is what the
    probe can reach. "class_kept": of images that show their class, the share of siblings (same noise_id, only
    `attribute` changed) that show it too. "detectability": AUROC of a detector of synthetic images, cross-validated
    over slides, as many real as synthetic rows of every combination; 0.5 is undetectable. Intervals resample real
    slides and noise_ids. Raises MediError where a slide or patient trains and tests (P5).
    """
    probed = {name: rows for name, rows in ((TRAINING, train), (CROSSED, crossed)) if rows is not None}
    if not probed:
        raise MediError("probes need real patches to learn from; give training patches, or crossed ones")
    check_sets({REAL: next(iter(probed.values())), "test": test, **synthetic}, over)
    arms, rows, confusions = {REAL: test, **synthetic}, [], []
    for probe, patches in probed.items():
        seen = _seen(patches, arms, over, seed, held_out)
        rows += [row | {PROBE: probe} for row in _of_probes(seen, over, seed)]
        confusions.append(_confusion(seen).assign(**{PROBE: probe}))
    for arm, embedded in synthetic.items():
        rows += [row | {PROBE: ""} for row in _detectabilities(arm, test, embedded, over, seed, held_out)]
    figures = pd.DataFrame(rows).assign(encoder=encoder, against="")
    return Control(figures[[*FIRST, *over, *LAST]], pd.concat(confusions, ignore_index=True))


def _seen(
    patches: Embedded,
    arms: Mapping[str, Embedded],
    over: Sequence[str],
    seed: int,
    held_out: frozenset[Combination],
) -> list[_Seen]:
    """Every arm under probes of these patches, one of each column."""
    _check_apart(patches.table, arms[REAL].table)
    return [look for attribute in over for look in _looks(patches, arms, attribute, over, seed, held_out)]


def _of_probes(seen: Sequence[_Seen], over: Sequence[str], seed: int) -> Iterator[Row]:
    """What was shown as asked, and whether the class is kept at another level."""
    for look in seen:
        yield from _as_asked(look, over, seed)
    for look in seen:
        if look.attribute == "class" and look.arm != REAL:
            yield from (_kept(look, attribute, over, seed) for attribute in over if attribute != "class")


def _check_apart(train: pd.DataFrame, test: pd.DataFrame) -> None:
    for column in ("patient", "slide", "sample_id"):
        if shared := (set(train[column]) & set(test[column])) - {""}:
            raise MediError(f"{column} {min(shared)!r} trains the probes and tests them; split them apart")


def _looks(
    train: Embedded,
    arms: Mapping[str, Embedded],
    attribute: str,
    over: Sequence[str],
    seed: int,
    held_out: frozenset[Combination],
) -> Iterator[_Seen]:
    """Every arm under the probe of this attribute; rows of levels that no training patch has, or of no combination,
    are left out."""
    probe, reason = _probe(train, attribute, over, seed)
    for arm, given in arms.items():
        known = np.isin(given.table[attribute].to_numpy(dtype=object), probe.classes if probe else ()) & given.whole
        known &= placed(given.table, over)
        rows = given.take(known).table
        combinations = rows[list(over)].itertuples(index=False, name=None)
        place = rows[list(over)].assign(
            split=["unseen" if combination in held_out else "seen" for combination in combinations]
        )
        place["noise_id"] = rows["noise_id"] if "noise_id" in rows else rows["sample_id"]
        found = probe.predict(given.features[known]) if probe and known.any() else np.empty(0, dtype=object)
        note = reason or _left_out(known)
        owner = slide_units(rows) if arm == REAL else place["noise_id"]
        requested = rows[attribute].to_numpy(dtype=object)
        yield _Seen(arm, attribute, requested, found, place, owner.astype(str).tolist(), note)


def _left_out(known: Mask) -> str:
    return f"{(~known).sum()} of {len(known)} images without a level to judge" if not known.all() else ""


def _probe(train: Embedded, attribute: str, over: Sequence[str], seed: int) -> tuple[Probe | None, str]:
    """A probe of this column: to it, the column is the class and the class an attribute."""
    rows = train.take(train.whole & train.table[attribute].ne("").to_numpy(dtype=bool))
    levels = rows.table[attribute].nunique()
    if levels < 2:
        return None, f"{levels} level of {attribute} among the training patches: no probe"
    swapped = rows.assign(**{"class": rows.table[attribute], attribute: rows.table["class"]})
    return Probe.fit(swapped, over=list(over), seed=seed), ""


def _as_asked(look: _Seen, over: Sequence[str], seed: int) -> Iterator[Row]:
    """Rows per split: over all combinations, per level of the attribute, and per combination."""
    nowhere = dict.fromkeys(over, "")
    splits = look.table["split"].to_numpy(dtype=object)
    combinations = list(look.table[list(over)].itertuples(index=False, name=None))
    known = sorted(set(combinations))
    order = {combination: i for i, combination in enumerate(known)}
    codes = np.array([order[combination] for combination in combinations], dtype=np.int64)
    judged = _Judged(look, codes, np.array(look.clusters, dtype=object), seed)
    for split in sorted(set(splits)) or [""]:
        here = np.flatnonzero(splits == split)
        yield judged.share(here, "all", nowhere, split)
        for level, rows in _by_value(here, look.requested):
            yield judged.share(rows, look.attribute, nowhere | {look.attribute: level}, split)
        for code, rows in _by_value(here, codes):
            yield judged.share(rows, "combination", dict(zip(over, known[code])), split)


def _by_value(rows: Int64[np.ndarray, " k"], values: Shaped[np.ndarray, " n"]) -> Iterator[tuple[Any, Any]]:
    """These rows by their values, in the order of the values; the rows of each in their own order."""
    found, which = np.unique(values[rows], return_inverse=True)
    parts = np.split(rows[np.argsort(which, kind="stable")], np.cumsum(np.bincount(which))[:-1])
    yield from zip(found.tolist(), parts)


@dataclass(frozen=True)
class _Judged:
    """An arm under a probe, each row with the number of its combination and with what it hangs on."""

    look: _Seen
    codes: Int64[np.ndarray, " n"]
    owners: Labels
    seed: int

    def share(self, rows: Int64[np.ndarray, " k"], scope: str, place: dict[str, str], split: str) -> Row:
        """The share as asked among these rows, every combination weighing alike."""
        look = self.look
        head: Row = {"metric": "as_asked", "arm": look.arm, "attribute": look.attribute, "scope": scope}
        size = {
            "n_real": len(rows) if look.arm == REAL else 0,
            "n_synthetic": 0 if look.arm == REAL else len(rows),
        }
        if not len(rows):
            found = Estimate(np.nan, reason=look.reason or "no images")
        else:
            hits = (look.recognised[rows] == look.requested[rows]).astype(np.float64)
            key: tuple[Key, ...] = ("control", self.seed, look.attribute, scope, split, *place.values())
            tallies = _tallies(hits, self.codes[rows])
            found = cluster_bootstrap(_balanced, self.owners[rows], tallies, draws=DRAWS, key=key)
        return head | place | {"split": split} | vars(found.noting(look.reason)) | size


def _tallies(hits: Float64[np.ndarray, " n"], codes: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 2 k"]:
    """Per combination: row is of it; row is of it and a hit."""
    member = (codes[:, None] == np.unique(codes)).astype(np.float64)
    return np.stack([member, member * hits[:, None]], axis=1)


def _balanced(totals: Float64[np.ndarray, "draws 2 k"]) -> Float64[np.ndarray, " draws"]:
    """The mean share over combinations; a draw that lost one is averaged over the others."""
    with np.errstate(invalid="ignore"):
        return np.nanmean(totals[:, 1] / totals[:, 0], axis=1)


def _kept(look: _Seen, attribute: str, over: Sequence[str], seed: int) -> Row:
    """Of images that show their class, the share of siblings with the same noise that show it at another level."""
    shared = ["noise_id", *(column for column in over if column != attribute)]
    groups = look.table.assign(hit=look.recognised == look.requested).groupby(shared, sort=True)
    levels, rows, hits = groups[attribute].nunique(), groups["hit"].size(), groups["hit"].sum()
    paired = (levels == rows) & (rows > 1)
    head: Row = {"metric": "class_kept", "arm": look.arm, "attribute": attribute, "scope": "all"}
    place: Row = {**dict.fromkeys(over, ""), "split": ""}
    size: Row = {"n_real": 0, "n_synthetic": int(rows[paired].sum())}
    if not paired.any():
        reason = f"no images share noise_id and differ in {attribute} alone"
        return head | place | vars(Estimate(np.nan, reason=reason)) | size
    n, h = rows[paired].to_numpy(dtype=np.float64), hits[paired].to_numpy(dtype=np.float64)
    names = rows[paired].index.get_level_values("noise_id").astype(str)
    key = ("class kept", seed, look.arm, attribute)
    found = cluster_bootstrap(_ratio, np.asarray(names), h * (h - 1), h * (n - 1), draws=DRAWS, key=key)
    return head | place | vars(found) | size


def _ratio(part: Float64[np.ndarray, " draws"], whole: Float64[np.ndarray, " draws"]) -> Float64[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / whole


def _detectabilities(
    arm: str, real: Embedded, made: Embedded, over: Sequence[str], seed: int, held_out: frozenset[Combination]
) -> Iterator[Row]:
    pairs = {"": None, "seen": False, "unseen": True} if held_out else {"": None}
    for split, unseen in pairs.items():
        tables = (real.table, made.table)
        x, y = (_matched(side, over, tables, seed, held_out, unseen) for side in (real, made))
        size = {"n_real": len(x), "n_synthetic": len(y)}
        found = _detectability(x, y, seed)
        head: Row = {"metric": "detectability", "arm": arm, "attribute": "", "scope": "all"}
        yield head | dict.fromkeys(over, "") | {"split": split} | vars(found) | size


def _matched(
    side: Embedded,
    over: Sequence[str],
    tables: Sequence[pd.DataFrame],
    seed: int,
    held_out: frozenset[Combination],
    unseen: bool | None,
) -> Embedded:
    """As many rows of every combination as both tables have."""
    counts = [table.groupby(list(over)).size() for table in tables]
    number = pd.concat(counts, axis=1, join="inner").min(axis=1)
    order = np.argsort(side.table["sample_id"].to_numpy(dtype=object), kind="stable")
    order = order[generator("detect", seed).permutation(len(order))]
    ordered = side.table.iloc[order]
    combinations = list(ordered[list(over)].itertuples(index=False, name=None))
    wanted = [
        int(number.get(combination, 0)) if _allowed(combination, held_out, unseen) else 0
        for combination in combinations
    ]
    rows = order[ordered.groupby(list(over)).cumcount().to_numpy() < np.array(wanted, dtype=np.int64)]
    return side.take(rows)


def _allowed(combination: Combination, held_out: frozenset[Combination], unseen: bool | None) -> bool:
    return unseen is None or (combination in held_out) == unseen


def _detectability(real: Embedded, made: Embedded, seed: int) -> Estimate:
    features = np.concatenate([real.features, made.features]).astype(np.float64)
    if len(real) < MIN_ROWS:
        return Estimate(np.nan, reason=f"{len(real)} real rows to match: fewer than {MIN_ROWS}")
    if not np.isfinite(features).all():
        return Estimate(np.nan, reason="embeddings are not finite")
    noise = made.table["noise_id" if "noise_id" in made.table else "sample_id"]
    owners = [f"r{name}" for name in slide_units(real.table)] + [f"s{name}" for name in noise]
    truth = np.repeat([0.0, 1.0], [len(real), len(made)])
    folds = _folds(owners, truth, seed)
    if len(set(folds[truth == 0])) < 2:
        return Estimate(np.nan, reason="one real slide: no cross-validation")
    scores = _out_of_fold(features, truth, folds)
    counts = cluster_counts(owners, truth.astype(int), draws=DETECTOR_DRAWS, key=("detect", seed))
    found = _aurocs(truth, scores, np.vstack([np.ones(len(truth)), counts]))
    return interval(float(found[0]), found[1:])


def _aurocs(
    truth: Float64[np.ndarray, " n"], scores: Float64[np.ndarray, " n"], counts: Float64[np.ndarray, "draws n"]
) -> Float64[np.ndarray, " draws"]:
    """The area under the ROC curve with each row of counts as weights: scikit-learn's `roc_auc_score` to the last bit.

    Rows are sorted once for all draws, which takes a tenth of the time. NaN for draws that lack a side.
    """
    order = np.argsort(-scores, kind="stable")
    scores, positive, counts = scores[order], truth[order] == 1, counts[:, order]
    return np.array([_auroc(scores[w > 0], (w * positive)[w > 0], (w * ~positive)[w > 0]) for w in counts])


def _auroc(
    scores: Float64[np.ndarray, " n"], positives: Float64[np.ndarray, " n"], negatives: Float64[np.ndarray, " n"]
) -> float:
    """From the highest score on: true over false positives, corners of the curve alone, and its area by trapezoids."""
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of equal scores
    true, false = np.cumsum(positives)[last], np.cumsum(negatives)[last]
    if not (true[-1] and false[-1]):
        return float("nan")
    corners = np.ones(len(true), dtype=bool)
    corners[1:-1] = (np.diff(true, 2) != 0) | (np.diff(false, 2) != 0)
    true, false = (np.append(0.0, found[corners]) for found in (true, false))
    return float(np.trapezoid(true / true[-1], false / false[-1]))


def _folds(owners: Sequence[str], truth: Float64[np.ndarray, " n"], seed: int) -> Int64[np.ndarray, " n"]:
    """The fold of each row: owners of either side dealt out in turn."""
    folds = np.empty(len(owners), dtype=np.int64)
    for side in (0.0, 1.0):
        index = cluster_index(np.asarray(owners, dtype=object)[truth == side])
        order = generator("detector folds", seed, int(side)).permutation(int(index.max()) + 1)
        folds[truth == side] = order[index] % FOLDS
    return folds


def _out_of_fold(
    features: Float64[np.ndarray, "n d"], truth: Float64[np.ndarray, " n"], folds: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Scores by a detector that saw neither the row nor its slide; ranks within a fold, as fits differ in scale."""
    scores = np.empty(len(truth))
    for fold in sorted(set(folds)):
        out = folds == fold
        mean, scale = features[~out].mean(axis=0), scales(features[~out])
        model = LogisticRegression(C=PENALTY, max_iter=500, tol=1e-3).fit((features[~out] - mean) / scale, truth[~out])
        found = model.decision_function((features[out] - mean) / scale)
        scores[out] = np.argsort(np.argsort(found)) / len(found)
    return scores


def _confusion(seen: Sequence[_Seen]) -> pd.DataFrame:
    """How often each level was recognised where another (or itself) was requested."""
    columns = ["arm", "attribute", "requested", "recognised"]
    pairs = [
        pd.DataFrame({"arm": s.arm, "attribute": s.attribute, "requested": s.requested, "recognised": s.recognised})
        for s in seen
        if len(s.recognised)
    ]
    if not pairs:
        return pd.DataFrame(columns=[*columns, "n", "share"])
    counts = pd.concat(pairs).groupby(columns, sort=True).size().rename("n").reset_index()
    total = counts.groupby(columns[:3])["n"].transform("sum")
    return counts.assign(share=counts["n"] / total)
