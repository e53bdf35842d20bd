"""How far an encoder sees the disease and not the hospital: RI, MaRI and CRoMa by `croma`, and PathoROB's clustering.

SO: a neighbour of the same class from another site; OS: of another class from the same site. RI is the share of SO
among SO and OS (Koemen et al., arXiv 2507.17845); MaRI weighs each by exp(-distance / tau); CRoMa is (d_OS - d_SO) /
(d_OS + d_SO) of a patch, by its five nearest of both kinds (Grisi et al., arXiv 2607.25497). `shortcuts` trains probes.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations as pairs_of

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from medi.core.seeds import generator
from medi.evaluation.classify.probes import codes, groups
from medi.evaluation.features import Embedded, Features, is_constant, placed, unplaced

CANDIDATES = (1, 3, 5, 7, 9, 11, 21, 31, 51, 71, 101)  # of RI's k: the one that tells classes best
TYPED = 5  # neighbours of each kind behind a patch's CRoMa
MOST = 2000  # patches among which neighbours are sought
LOW_SUPPORT = 0.5
PAIRS, PER_COMBINATION, TRIALS, STARTS = 6, 50, 10, 5  # of the clustering score; PathoROB: all, all, 50, 20 and 5
CLUSTERS = range(2, 31)
NEAR = (
    *("ri", "ri_k", "ri_support", "mari", "mari_tau", "mari_support"),
    *("croma", "croma_worst_tenth", "croma_below_zero"),
)
CLUSTERING = "clustering_score"


@dataclass(frozen=True)
class Figure:
    """A figure, or NaN with the reason; `reason` may also hold a note about a figure that is there."""

    metric: str
    value: float
    reason: str = ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without croma's warnings: what they say of support stands in the table."""
    log = logging.getLogger("croma")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def chosen(rows: Embedded, over: Sequence[str], most: int, seed: int) -> Embedded:
    """The rows with a level in each column, at most `most`: a patch of each combination in turn, drawn by the seed."""
    known = rows.take(placed(rows.table, over))
    if len(known) <= most:
        return known
    order = generator("robustness", seed).permutation(len(known))
    turn = pd.Series(codes(known.table, over)[order]).groupby(codes(known.table, over)[order]).cumcount()
    first = order[np.argsort(turn.to_numpy(), kind="stable")[:most]]
    return known.take(np.sort(first).astype(np.int64))


def refusal(rows: Embedded, over: Sequence[str]) -> str:
    """Why nothing can be said of these rows, "" where something can."""
    table = rows.table
    places = [name for name in over if name != "class"]
    if not len(table):
        return f"no patch has a known {' and '.join(over)}"
    if broken := int((~rows.whole).sum()):
        first = table["sample_id"].iloc[int((~rows.whole).argmax())]
        return f"{broken} embeddings are not finite, first of {first!r}; mend or drop them"
    if is_constant(rows.features):
        return "all patches have the same features"
    if table["class"].nunique() < 2:
        return f"only the class {table['class'].iloc[0]} occurs"
    if len(set(codes(table, places))) < 2:
        return f"only one {' x '.join(places)} occurs"
    if groups(table).nunique() < 2:
        return "one patient (or slide) holds all patches: no neighbours in others"
    return ""


def manifest(table: pd.DataFrame, over: Sequence[str]) -> pd.DataFrame:
    """The table as croma reads it. Neighbours of the same patient, else slide, are left out (group_id)."""
    place = codes(table, [name for name in over if name != "class"])
    ids = np.arange(len(table)).astype(str)
    return pd.DataFrame(
        {
            "sample_id": ids,
            "image_path": ids,
            "label": codes(table, ["class"]).astype(str),
            "site": place.astype(str),
            "group_id": "g" + groups(table).reset_index(drop=True).astype(str),
        }
    )


def near_figures(rows: Embedded, over: Sequence[str], *, most: int = MOST, seed: int = 0) -> list[Figure]:
    """RI and MaRI with k, tau and support, and CRoMa's median, mean of the worst tenth and share at or below 0.

    Equal to croma's. rows: float [n, d] beside class, the columns of `over`, patient and slide. Where there are more
    than `most` patches, as many are drawn, combinations in turn.
    """
    rows = chosen(rows, over, most, seed)
    if reason := refusal(rows, over):
        return [Figure(name, float("nan"), reason) for name in NEAR]
    x, sheet = np.ascontiguousarray(rows.features, dtype=np.float64), manifest(rows.table, over)
    with quiet():
        return [*_by_neighbours(x, sheet), *_margins(x, sheet)]


def _by_neighbours(x: Features, sheet: pd.DataFrame) -> list[Figure]:
    """RI, then MaRI at the same k."""
    from croma import RI, MaRI

    ks = [k for k in CANDIDATES if k < len(x)]
    counted = RI.compute(x, sheet, confounder_column="site", k_candidates=ks)
    if not counted.support:
        reason = "no neighbour shares class or site alone"
        return [Figure(name, 0.0 if name.endswith("support") else float("nan"), reason) for name in NEAR[:6]]
    weighed = MaRI.compute(x, sheet, confounder_column="site", k_candidates=[counted.k])
    note = "" if counted.support >= LOW_SUPPORT else f"only {counted.support:.0%} of the patches have such neighbours"
    found = (counted.value, counted.k, counted.support, weighed.value, weighed.tau, weighed.support)
    return [Figure(name, float(value), note if name in ("ri", "mari") else "") for name, value in zip(NEAR, found)]


def _margins(x: Features, sheet: pd.DataFrame) -> list[Figure]:
    """CRoMa, which croma refuses unless every patch has both kinds of neighbours: then the reason."""
    from croma import CRoMa

    names = NEAR[6:]
    reason = lacking_neighbours(sheet)
    if not reason:
        try:
            found = CRoMa.compute(x, sheet, confounder_column="site", m=TYPED)
        except RuntimeError:
            reason = "patches with the same features have no margin: CRoMa is refused"
    if reason:
        return [Figure(name, float("nan"), reason) for name in names]
    return [Figure(name, float(value)) for name, value in zip(names, (found.value, found.ltm_alpha, found.f0))]


def lacking_neighbours(sheet: pd.DataFrame) -> str:
    """How many patches have fewer than `TYPED` neighbours of a kind in other patients, in words; "" where none has."""
    same, here = _elsewhere(sheet, ["label"]), _elsewhere(sheet, ["site"])
    both = _elsewhere(sheet, ["label", "site"])
    few = [(values - both < TYPED) for values in (same, here)]
    lacking = int((few[0] | few[1]).sum())
    if not lacking:
        return ""
    own, others = (int(n.sum()) for n in few)
    return (
        f"CRoMa is refused: {lacking} of {len(sheet)} patches have fewer than {TYPED} neighbours of a kind in other "
        f"patients ({own} of their class at other sites, {others} of other classes at their site)"
    )


def _elsewhere(sheet: pd.DataFrame, columns: list[str]) -> Int64[np.ndarray, " n"]:
    """How many patches of other groups share these columns with each patch."""
    own = sheet.groupby([*columns, "group_id"])["sample_id"].transform("size")
    return (sheet.groupby(columns)["sample_id"].transform("size") - own).to_numpy(dtype=np.int64)


def clustering_score(rows: Embedded, over: Sequence[str], *, seed: int = 0) -> Figure:
    """PathoROB's: the adjusted Rand index of clusters with the class less that with the site, in [-1, 1].

    Two classes at two sites at a time, with k-means on features of unit length; the number of clusters, 2 to 30, has
    the highest silhouette by cosine. The mean over `TRIALS` starts and `PAIRS` drawn pairs of classes and sites whose
    four combinations all have patches, `PER_COMBINATION` of each at most.
    """
    rows = rows.take(placed(rows.table, over))
    if reason := refusal(rows, over):
        return Figure(CLUSTERING, float("nan"), reason)
    label = codes(rows.table, ["class"])
    place = codes(rows.table, [name for name in over if name != "class"])
    squares = crossed_squares(label, place, 2)
    if not squares:
        return Figure(CLUSTERING, float("nan"), "no two classes occur at the same two sites")
    random = generator("clustering", seed)
    drawn = random.permutation(len(squares))[:PAIRS]
    scores = []
    for number in np.sort(drawn):
        members = _members(label, place, squares[number], random)
        scores.append(_ari_gap(unit(rows.features[members]), label[members], place[members], seed))
    note = f"mean of {len(drawn)} of {len(squares)} pairs of classes and sites" if len(squares) > len(drawn) else ""
    return Figure(CLUSTERING, float(np.mean(scores)), note)


Square = tuple[tuple[int, int], tuple[int, int]]  # two classes, two sites


def crossed_squares(label: Int64[np.ndarray, " n"], place: Int64[np.ndarray, " n"], least: int) -> list[Square]:
    """Every two classes and two sites whose four combinations all have `least` patches."""
    counts = np.zeros((label.max() + 1, place.max() + 1), dtype=np.int64)
    np.add.at(counts, (label, place), 1)
    full = counts >= least
    found = []
    for a, b in pairs_of(range(len(full)), 2):
        found += [((a, b), sites) for sites in pairs_of([int(s) for s in np.flatnonzero(full[a] & full[b])], 2)]
    return found


def _members(
    label: Int64[np.ndarray, " n"], place: Int64[np.ndarray, " n"], square: Square, random: np.random.Generator
) -> Int64[np.ndarray, " m"]:
    """Rows of the four combinations, at most `PER_COMBINATION` of each."""
    parts = [np.flatnonzero((label == c) & (place == s)) for c in square[0] for s in square[1]]
    return np.concatenate([np.sort(random.permutation(part)[:PER_COMBINATION]) for part in parts])


def unit(x: Features) -> Float64[np.ndarray, "n d"]:
    """Rows of length 1."""
    wide = x.astype(np.float64)  # features of other programs come in single precision
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def _ari_gap(
    x: Float64[np.ndarray, "n d"], label: Int64[np.ndarray, " n"], place: Int64[np.ndarray, " n"], seed: int
) -> float:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    def clusters(k: int, start: int) -> Int64[np.ndarray, " n"]:
        return KMeans(k, init="random", n_init=STARTS, random_state=start).fit(x).labels_.astype(np.int64)

    def separation(k: int) -> float:
        found = clusters(k, seed)
        several = 1 < len(set(found)) < len(x)
        return float(silhouette_score(x, found, metric="cosine")) if several else -1.0

    with quiet():
        best = max((k for k in CLUSTERS if k < len(x)), key=separation)
        trials = [clusters(best, seed + trial) for trial in range(TRIALS)]
    return float(np.mean([adjusted_rand_score(label, t) - adjusted_rand_score(place, t) for t in trials]))


def note_of(rows: Embedded, over: Sequence[str], most: int = MOST) -> str:
    """What is left out, in words."""
    known = int(placed(rows.table, over).sum())
    drawn = f"{most:,} of {known:,} patches, drawn in turn from all combinations" if known > most else ""
    return "; ".join(filter(None, [unplaced(rows.table, over), drawn]))


def robustness(rows: Embedded, over: Sequence[str], *, seed: int = 0, arm: str = "real") -> pd.DataFrame:
    """Every figure of an encoder's robustness, a row each: metric, arm, attribute, value, n_real, ..., reason.

    over: the class and the columns that should not matter.
    """
    from medi.evaluation.shortcuts import shortcut_figures

    figures = near_figures(rows, over, seed=seed)
    figures += [clustering_score(rows, over, seed=seed), *shortcut_figures(rows, over, seed=seed)]
    return as_rows(figures, rows, over, arm)


def as_rows(figures: Sequence[Figure], rows: Embedded, over: Sequence[str], arm: str) -> pd.DataFrame:
    """The figures as a tidy table."""
    table = rows.table[placed(rows.table, over)]
    sizes = {"n_real": len(table), "n_slides": table["slide"].nunique(), "n_patients": groups(table).nunique()}
    attribute = " x ".join(name for name in over if name != "class")
    return pd.DataFrame([{"arm": arm, "attribute": attribute} | vars(found) | sizes for found in figures])
