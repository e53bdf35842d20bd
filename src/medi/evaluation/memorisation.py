"""Are synthetic images new? Nearest training patches, under all flips and turns, against two nulls.

A copy is closer to one training patch than reserved patches of the same slides are; a leak of slide identity is closer
to one training slide than patches of other patients are. Both distances are divided by those to the next training
patches or slides, so that plain images, alike to everything, are no copies. A threshold is set as a conformal test
sets it: a fresh patch falls below it with a stated chance, whatever the distribution.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort, slide_units
from medi.cohort.turns import VIEWS, turned
from medi.core.claims import COPIES, LEAKS, LEAST_RESERVED
from medi.core.progress import Advance, Tally, unheard
from medi.core.seeds import Key, generator
from medi.core.threads import one_thread
from medi.core.types import Images
from medi.evaluation.features import Features, scales
from medi.evaluation.statistics import Estimate, cluster_counts, interval

GRID = 8  # fields a side: noise averages out, structure stays
PEERS = 20  # next nearest training patches
MARGIN = 0.9  # of the null's ratios (0.74 to 0.96 on the phantom; copies with noise of 20 grey levels: below 0.29)
FEWEST = LEAST_RESERVED  # of a null: with fewer the lowest one is passed by more than 5 % of fresh patches
MOST = 2_500  # patches of each kind that copies are looked for among: the search grows with n and not with its square
RESERVED = 1_000  # reserved patches that set the threshold, which 1 % of fresh patches may pass
SLIDES = 3  # of a combination: one to be close to, others to compare with
DRAWS = 500
SUSPECTS = 12
CHUNK = 32  # patches that are compared at a time
BLOCK = 2**23  # distances held at a time
COLUMNS = ("metric", "arm", "against", "value", "low", "high", "n_real", "n_synthetic", "reason")
Ratios = Float64[np.ndarray, " n"]
Grids = Float32[np.ndarray, "_n _k"]


@dataclass(frozen=True)
class Patches:
    """A packed cohort and the features [n, d] of its patches."""

    cohort: Cohort
    features: Features

    def __len__(self) -> int:
        return len(self.cohort)


@dataclass(frozen=True)
class Memorisation:
    """`figures`: copy_rate and slide_leak per arm; `suspects`: the pairs most alike; `sheet`: their patches."""

    figures: pd.DataFrame
    suspects: pd.DataFrame
    sheet: Cohort | None


@dataclass(frozen=True)
class Nearest:
    """Per patch its nearest training row (after turn 0 to 7 of the patch), the distance, and its ratio to the next."""

    row: Int64[np.ndarray, " n"]
    turn: Int64[np.ndarray, " n"]
    distance: Ratios
    ratio: Ratios


@dataclass(frozen=True)
class _Judged:
    """Ratios of patches that are compared with one another, and what is resampled as one."""

    ratio: Ratios
    clusters: Sequence[str]


@one_thread
def memorisation(
    train: Patches,
    synthetic: Mapping[str, Patches],
    reserve: Patches | None,
    others: Patches | None,
    *,
    over: Sequence[str],
    seed: int,
    progress: Advance = unheard,
) -> Memorisation:
    """copy_rate and slide_leak of every arm, and the pairs most alike.

    reserve: patches of training slides that no model saw; others: patches of patients that no model saw. copy_rate
    compares low frequencies of the pixels with `reserve`; its arm "real" is `others`, which cannot be copies. At most
    1 % of fresh patches count as copies. Of more than RESERVED patches of the former, or MOST of the latter, as many
    are drawn by the seed for this. slide_leak compares features with `others`, within each combination of `over`; 5 %
    is no leak, and its arm "reserve" is what full knowledge of the slides looks like. Intervals resample the null's
    slides and, of synthetic images, those nearest to one training slide as one.
    """
    if train.cohort.pixels is None:
        return _by_features(train, synthetic, reserve, others, over, seed)
    arms = ({"real": _some(others, seed, MOST)} if others else {}) | dict(synthetic)
    kept = _some(reserve, seed, RESERVED) if reserve else None
    tally = Tally(progress, sum(map(len, [*arms.values(), *([kept] if kept else [])])))
    slides = slide_units(train.cohort.table).to_numpy(dtype=object)
    known = grids(train.cohort.images)
    found = {arm: nearest(known, grids(part.cohort.images), tally.part()) for arm, part in arms.items()}
    null = _null(nearest(known, grids(kept.cohort.images), tally.part()), _slides(kept)) if kept else None
    rows: list[dict[str, object]] = []
    for arm, near in found.items():
        owners = slides[near.row] if arm in synthetic else _slides(arms[arm])
        judged = _Judged(near.ratio, list(owners))
        rows.append(_figure("copy_rate", arm, _copy_rate(null, judged, (seed, arm)), null, judged))
    for arm, part in (dict(synthetic) | ({"reserve": reserve} if reserve else {})).items():
        rows.append(_leak(train, others, arm, part, over, (seed, arm)))
    suspects = _suspects({arm: found[arm] for arm in synthetic}, synthetic, train, over, _threshold(null))
    return Memorisation(_table(rows, synthetic), suspects, _sheet(suspects, synthetic, train))


def _some(part: Patches, seed: int, most: int) -> Patches:
    """At most so many of the patches, at random, in their order."""
    if len(part) <= most:
        return part
    rows = np.sort(generator("memorisation", seed).permutation(len(part))[:most])
    return Patches(part.cohort.select(rows), part.features[rows])


def _by_features(
    train: Patches,
    synthetic: Mapping[str, Patches],
    reserve: Patches | None,
    others: Patches | None,
    over: Sequence[str],
    seed: int,
) -> Memorisation:
    """Where there are features alone, slides can be recognised and copies of images cannot."""
    unknown = Estimate(np.nan, reason="copies are told by images; features alone are given")
    rows = [
        _figure("copy_rate", arm, unknown, None, _Judged(np.zeros(len(part)), [])) for arm, part in synthetic.items()
    ]
    for arm, part in (dict(synthetic) | ({"reserve": reserve} if reserve else {})).items():
        rows.append(_leak(train, others, arm, part, over, (seed, arm)))
    return Memorisation(_table(rows, synthetic), _suspects({}, {}, train, over, 1.0), None)


def _table(rows: Sequence[Mapping[str, object]], synthetic: Mapping[str, Patches]) -> pd.DataFrame:
    """The figures; `origin` is the model that made all images of an arm, by its hash, else ""."""
    origins = {arm: set(part.cohort.table.get("origin", ())) for arm, part in synthetic.items()}
    made_by = {arm: found.pop() for arm, found in origins.items() if len(found) == 1}
    table = pd.DataFrame(rows)[list(COLUMNS)]
    return table.assign(origin=[made_by.get(arm, "") for arm in table["arm"]])


def grids(images: Pixels) -> Grids:
    """Low frequencies of each patch: means over an 8 x 8 grid less the patch's mean colour, as rows [n, 192]."""
    out = np.empty((len(images), GRID * GRID * 3), dtype=np.float32)
    for start in range(0, len(images), 256):
        part = images[slice(start, start + 256)].astype(np.float32)
        rows, columns = _shares(part.shape[1]), _shares(part.shape[2])
        means = np.einsum("ah,nhwc,bw->nabc", rows, part, columns, optimize=True)
        out[start : start + len(part)] = (means - means.mean(axis=(1, 2), keepdims=True)).reshape(len(part), -1)
    return out


def _shares(size: int) -> Float32[np.ndarray, "8 {size}"]:
    """What each of `size` pixels has in each combination's mean; pixels on an edge are shared: flips change nothing."""
    edges = np.linspace(0, size, GRID + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    overlap = np.minimum(ends, np.arange(1, size + 1)) - np.maximum(starts, np.arange(size))
    return (overlap.clip(0) * GRID / size).astype(np.float32)


def nearest(train: Grids, patches: Grids, progress: Advance = unheard) -> Nearest:
    """The nearest rows of `train` [N, k] to `patches` [n, k], the latter in all eight flips and turns.

    Both go in blocks, so that the seconds grow with N * n and the memory does not.
    """
    norm = (train**2).sum(axis=1)
    parts = []
    for start in range(0, len(patches), CHUNK):
        rows = patches[start : start + CHUNK].reshape(-1, GRID, GRID, 3)
        views = np.stack([turned(rows, t).reshape(len(rows), -1) for t in range(VIEWS)])
        parts.append(_closest(views, train, _candidates(views, train, norm)))
        progress(start + len(rows), len(patches))
    joined = [np.concatenate(column) for column in zip(*parts)] if parts else [np.empty(0, int)] * 2 + [np.empty(0)] * 2
    return Nearest(*joined)


def _candidates(
    views: Float32[np.ndarray, "8 n k"], train: Grids, norm: Float32[np.ndarray, " N"]
) -> Int64[np.ndarray, "n c"]:
    """Rows of `train` among which are each patch's PEERS + 1 nearest, from the first to the last."""
    flat, own = views.reshape(-1, views.shape[2]), (views**2).sum(axis=2)[..., None]
    numbers = []
    for low in range(0, len(train), BLOCK // (VIEWS * CHUNK)):
        block = slice(low, low + BLOCK // (VIEWS * CHUNK))
        products = (flat @ train[block].T).reshape(*views.shape[:2], -1)
        best = (own + norm[block] - 2 * products).min(axis=0)
        few = np.argpartition(best, min(PEERS, best.shape[1] - 1), axis=1)[:, : PEERS + 1]
        numbers.append(np.sort(few, axis=1) + low)
    return np.concatenate(numbers, axis=1)


def _closest(
    views: Float32[np.ndarray, "8 n k"], train: Grids, candidates: Int64[np.ndarray, "n c"]
) -> tuple[np.ndarray, ...]:
    """Row, turn, distance and ratio of `Nearest`; of rows that are alike the first."""
    squares = np.stack([((view[:, None] - train[candidates]).astype(np.float64) ** 2).sum(axis=2) for view in views])
    best, which = squares.min(axis=0), np.arange(len(candidates))
    first = best.argmin(axis=1)
    turn, distance = squares[:, which, first].argmin(axis=0), np.sqrt(best[which, first])
    peers = min(PEERS, best.shape[1] - 1)
    next_ones = np.sqrt(np.partition(best, peers, axis=1)[:, : peers + 1])
    typical = (next_ones.sum(axis=1) - distance) / max(peers, 1)
    ratio = np.divide(distance, typical, out=np.zeros_like(distance), where=typical > 0)
    return candidates[which, first], turn, distance, ratio


def _null(near: Nearest, slides: list[str]) -> _Judged:
    """The margin makes up for reserved patches from few slides, where the lowest ratios depend on chance."""
    return _Judged(MARGIN * near.ratio, slides)


def _copy_rate(null: _Judged | None, judged: _Judged, key: Sequence[Key]) -> Estimate:
    if null is None:
        return Estimate(np.nan, reason="no reserved patches of the training slides to compare with (split reserve)")
    if len(null.ratio) < FEWEST:
        return Estimate(np.nan, reason=f"{len(null.ratio)} reserved patches: {FEWEST} are needed for a threshold")
    few = f"{len(null.ratio)} reserved patches: up to 1 in {len(null.ratio) + 1} fresh patches counts as a copy"
    return _rate([(null, judged)], COPIES, key).noting(few if len(null.ratio) + 1 < 1 / COPIES else "")


def _rate(pairs: Sequence[tuple[_Judged, _Judged]], alarm: float, key: Sequence[Key]) -> Estimate:
    """The share of patches below their null's threshold, over pairs of a null and patches to judge."""
    hits = sum(float(_below(null, judged, np.ones((1, len(null.ratio))), alarm).sum()) for null, judged in pairs)
    total = sum(len(judged.ratio) for _, judged in pairs)
    if not total:
        return Estimate(np.nan, reason="no images to judge")
    found, weight = np.zeros(DRAWS), np.zeros(DRAWS)
    for number, (null, judged) in enumerate(pairs):
        counts = _counts(null.clusters, (*key, number, "null"))
        own = _counts(judged.clusters, (*key, number, "judged"))
        found += (_below(null, judged, counts, alarm) * own).sum(axis=1)
        weight += own.sum(axis=1)
    return interval(hits / total, found / weight)


def _counts(clusters: Sequence[str], key: Sequence[Key]) -> Float64[np.ndarray, "draws n"]:
    return cluster_counts(
        clusters, [""] * len(clusters), draws=DRAWS, key=("copying", *key)
    )  # the name of version 0.1: figures of equal seeds stay equal


def _below(
    null: _Judged, judged: _Judged, counts: Float64[np.ndarray, "draws n"], alarm: float
) -> Bool[np.ndarray, "draws m"]:
    """Which patches lie below all but a share `alarm` of the null's, counted as in each draw."""
    order = np.argsort(null.ratio)
    lower = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], axis=1)], axis=1)
    place = np.searchsorted(null.ratio[order], judged.ratio, side="right")
    allowed = np.maximum(alarm * (counts.sum(axis=1) + 1) - 1, 0)
    return lower[:, place] <= allowed[:, None]


def _threshold(null: _Judged | None) -> float:
    """The ratio below which a patch counts as a copy."""
    if null is None or len(null.ratio) < FEWEST:
        return float("nan")
    return float(np.sort(null.ratio)[max(int(COPIES * (len(null.ratio) + 1)) - 1, 0)])


def _leak(
    train: Patches, others: Patches | None, arm: str, part: Patches, over: Sequence[str], key: Sequence[Key]
) -> dict[str, object]:
    pairs = list(_leak_pairs(train, others, part, over)) if others else []
    null = _Judged(np.concatenate([np.empty(0), *(null.ratio for null, _ in pairs)]), [])
    judged = _Judged(np.concatenate([np.empty(0), *(one.ratio for _, one in pairs)]), [])
    if others is None:
        found = Estimate(np.nan, reason="no patches of other patients to compare with")
    elif not pairs:
        found = Estimate(
            np.nan,
            reason=f"no combination has {SLIDES} training slides, {FEWEST} patches of other patients and {arm} images",
        )
    else:
        out = len(part) - len(judged.ratio)
        left = f"{out} of {len(part)} images of other combinations left out" if out else ""
        found = _rate(pairs, LEAKS, (*key, "leak")).noting(left)
    return _figure("slide_leak", arm, found, null, judged)


def _leak_pairs(
    train: Patches, others: Patches, part: Patches, over: Sequence[str]
) -> Iterator[tuple[_Judged, _Judged]]:
    """Per combination the closeness of other patients' patches and of these to one training slide."""
    scale, owners = scales(train.features), slide_units(train.cohort.table).to_numpy(dtype=object)
    clusters = np.array(_slides(others), dtype=object)
    places = [each.cohort.table.groupby(list(over)).indices for each in (train, others, part)]
    for combination in sorted(set(places[0]) & set(places[1]) & set(places[2]), key=str):
        rows, null, judged = (place[combination] for place in places)
        slides = owners[rows]
        if len(set(slides)) >= SLIDES and len(null) >= FEWEST:
            base = train.features[rows] / scale
            there, _ = _slide_ratios(base, slides, others.features[null] / scale)
            here, near = _slide_ratios(base, slides, part.features[judged] / scale)
            yield _Judged(there, list(clusters[null])), _Judged(here, list(near))


def _slide_ratios(base: Features, slides: np.ndarray, patches: Features) -> tuple[Ratios, np.ndarray]:
    """Distance to the nearest training slide over the median of those to the other slides; and which slide it is."""
    order = np.argsort(slides.astype(str), kind="stable")
    names, starts = np.unique(slides[order].astype(str), return_index=True)
    x, y = patches.astype(np.float64), base[order].astype(np.float64)
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    each = np.sqrt(np.minimum.reduceat(np.maximum(squares, 0), starts, axis=1))
    rest = np.median(np.sort(each, axis=1)[:, 1:], axis=1)
    return np.divide(each.min(axis=1), rest, out=np.zeros(len(x)), where=rest > 0), names[each.argmin(axis=1)]


def _figure(metric: str, arm: str, found: Estimate, null: _Judged | None, judged: _Judged) -> dict[str, object]:
    size = {"n_real": len(null.ratio) if null else 0, "n_synthetic": len(judged.ratio)}
    return {"metric": metric, "arm": arm, "against": ""} | vars(found) | size


def _slides(part: Patches) -> list[str]:
    return slide_units(part.cohort.table).astype(str).tolist()


def _suspects(
    found: Mapping[str, Nearest], synthetic: Mapping[str, Patches], train: Patches, over: Sequence[str], limit: float
) -> pd.DataFrame:
    """The pairs most alike of each arm; `ratio` is to the null's threshold: below 1 counts as a copy."""
    columns = ["rank", "arm", "sample_id", *over, "neighbour", "neighbour_slide", "turn", "distance", "ratio"]
    parts = []
    for arm, near in found.items():
        first = np.argsort(near.ratio, kind="stable")[:SUSPECTS]
        own = synthetic[arm].cohort.table.iloc[first].reset_index(drop=True)
        known = train.cohort.table.iloc[near.row[first]].reset_index(drop=True)
        pairs = own[["sample_id", *over]].assign(neighbour=known["sample_id"], neighbour_slide=known["slide"])
        values = {"turn": near.turn[first], "distance": near.distance[first], "ratio": near.ratio[first] / limit}
        parts.append(pairs.assign(rank=np.arange(1, len(first) + 1), arm=arm, **values)[columns])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _sheet(suspects: pd.DataFrame, synthetic: Mapping[str, Patches], train: Patches) -> Cohort | None:
    """Each suspect, turned as its neighbour lies, and the neighbour: rank, arm and role say which is which."""
    tables, images = [], []
    for arm, rows in suspects.groupby("arm", sort=False):
        for role, ids, cohort in (
            ("synthetic", rows["sample_id"], synthetic[str(arm)].cohort),
            ("training", rows["neighbour"], train.cohort),
        ):
            place = pd.Series(np.arange(len(cohort)), index=cohort.table["sample_id"])
            chosen = place.loc[ids].to_numpy()  # two suspects may have one neighbour
            turns = rows["turn"].tolist() if role == "synthetic" else [0] * len(rows)
            images.append(_views(cohort.images[chosen], turns))
            names = [f"{arm}:{rank}:{role}" for rank in rows["rank"]]
            own = cohort.table.iloc[chosen].assign(sample_id=names, rank=rows["rank"].to_numpy(), arm=arm, role=role)
            tables.append(own[["sample_id", "patient", "slide", "rank", "arm", "role", *_labels(train.cohort)]])
    if not tables:
        return None
    return Cohort(pd.concat(tables, ignore_index=True), train.cohort.schema, Pixels.of(np.concatenate(images)))


def _labels(cohort: Cohort) -> list[str]:
    return [attribute.name for attribute in cohort.schema.conditions]


def _views(images: Images, turns: Sequence[int]) -> Images:
    return np.stack([turned(image[None], int(turn))[0] for image, turn in zip(images, turns)])
