"""All measures of one comparison: distances, neighbourhoods, paired differences of arms, and the collapse guard.

Differences of Frechet distances leave slides and images out (`paired`). Draws for the other measures resample real
slides (jointly for all arms, P9) and each arm's images; recall and coverage, whose balls no resample keeps, take the
spread over synthetic images from a jackknife.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations as pairs_of

import numpy as np
from jaxtyping import Float64

from medi.cohort.table import slide_units
from medi.core.claims import GUARD, LEAST_IMAGES
from medi.core.errors import MediError
from medi.core.registry import registry
from medi.core.seeds import Key, generator
from medi.evaluation.features import FLOOR, FLOORS, REAL, Features
from medi.evaluation.fidelity.blocks import Blocks, Products
from medi.evaluation.fidelity.frechet import frechet_distance
from medi.evaluation.fidelity.kernels import cubic, kid, median_bandwidth, mmd2, mmd_test, rbf, resampled_mmd2, unbiased
from medi.evaluation.fidelity.matching import Counts, Drawn, Matching, Slides, Target
from medi.evaluation.fidelity.neighbours import NEIGHBOURS, Neighbours, jackknife, meetings, neighbours
from medi.evaluation.fidelity.paired import Leaving, LeftOut, frechet_difference
from medi.evaluation.statistics import Estimate, cluster_counts, cluster_index, student_interval

Draws = Float64[np.ndarray, " draws"]
Pair = tuple[str, str]  # an arm, and the one that is subtracted from it
METRICS = ("frechet", "mmd2", "kid", "precision", "recall", "density", "coverage", "duplicates")
Metric = Callable[[Features, Features], float]  # of real and of an arm's features [n, d] each; NaN where undefined
DISTANCES = ("frechet", "mmd2", "kid")
DIFFERENCES = ("frechet", "mmd2", "recall", "coverage")  # of two arms
GUARDED = ("recall", "coverage")  # also of an arm and the floor
REPEATED = 0.05  # share of images that repeat others, beyond the other arm's
GROUPS = 10  # of the floor's slides or of an arm's images, left out in turn


def metrics() -> tuple[str, ...]:
    """All metrics: those of this package, then those that a user registered."""
    return (*METRICS, *(name for name in registry("metric") if name not in METRICS))


def duplicates(x: Features, y: Features) -> float:
    """The share of the rows y that repeat other rows of y; NaN without rows."""
    return 1 - len({row.tobytes() for row in y}) / len(y) if len(y) else float("nan")


def _neighbourhood(name: str, x: Features, y: Features) -> float:
    met = neighbours(x, y) if min(len(x), len(y)) > 1 else None
    return met.values()[name] if met is not None else float("nan")


for _name, _metric in {"frechet": frechet_distance, "mmd2": mmd2, "kid": kid, "duplicates": duplicates}.items():
    registry("metric").add(_name, _metric)
for _name in ("precision", "recall", "density", "coverage"):
    registry("metric").add(_name, partial(_neighbourhood, _name))


@dataclass(frozen=True)
class Result:
    """Per arm and metric the estimate; per pair of arms those of the differences, with the draws behind them.

    left: per arm its Frechet distances with slides and images left out, the same ones for all targets that share
    slides, which have one name in `linked`.
    """

    target: Target
    n: int
    slides: frozenset[str]
    values: dict[str, dict[str, Estimate]]
    differences: dict[Pair, dict[str, Estimate]]
    draws: dict[Pair, dict[str, Draws]]
    left: dict[str, LeftOut]
    linked: str


@dataclass(frozen=True)
class _Set:
    """The drawn rows of one set: features, their slides (real and floor) or ids, and the combination of each."""

    features: Features
    clusters: list[str]
    combinations: np.ndarray

    @cached_property
    def products(self) -> Products:
        return Products.of(self.features)

    @cached_property
    def standardised(self) -> Products:
        return Products.of(self.features, standardise=True)

    @cached_property
    def distinct(self) -> int:
        return len({row.tobytes() for row in self.features})


@dataclass(frozen=True)
class _Measured:
    """The values of one arm and what its draws are made from."""

    data: _Set
    values: dict[str, Estimate]
    kernel: Blocks | None = None
    met: Neighbours | None = None
    errors: dict[str, float] | None = None  # standard errors of recall and coverage over the arm's images


def measure(
    matching: Matching, target: Target, drawn: dict[str, Drawn], slides: Slides, linked: Slides, draws: int
) -> Result:
    """Everything about one target; without draws no interval and no p-value.

    slides: strata that are resampled; linked: those of all targets that share a slide with this one, in one stratum.
    """
    key: tuple[Key, ...] = ("fidelity", matching.seed, *target.labels.values())
    sets = {name: _set(matching, name, part) for name, part in drawn.items()}
    matched = matching.matched(drawn, target)
    found = {}
    for arm in matching.arms:
        absence = matching.absence(arm, drawn, target)
        found[arm] = _absent(absence) if absence else _measured(sets[REAL], arm, sets[arm], matched, draws, key)
    real = sets.get(REAL)
    names = frozenset(real.clusters if real else ())
    spread = (
        _spread(real, found, slides, linked, draws, key) if real and draws and len(names) else _Spread({}, {}, {}, "")
    )
    return _result(target, found, spread, names, slides.degrees(names), draws)


def difference(value: float, draws: Draws, degrees: int) -> Estimate:
    """A difference with its interval from draws, or with none where nothing was drawn."""
    return student_interval(value, draws, degrees) if len(draws) else Estimate(value)


def withheld(
    pair: Pair, value: float, values: dict[str, dict[str, float]], gaps: dict[tuple[str, str, str], Estimate]
) -> str:
    """The collapse guard: why the nearer of two arms must not be called closer; "" where nothing speaks against it.

    value: the first arm's distance less the second's. values: recall, coverage and the share of duplicates by arm.
    gaps: differences of recall and coverage, by first arm, second arm and metric. At n <= d a Frechet distance rewards
    images that are all alike.
    """
    near, far = pair if value < 0 else pair[::-1]
    if values[near]["duplicates"] > values[far]["duplicates"] + REPEATED:
        return f"{GUARD}: {values[near]['duplicates']:.0%} of {near}'s images repeat others"
    for metric in GUARDED:
        if _below(gaps, near, far, metric):
            return _verdict(near, far, metric, values)
        if _below(gaps, near, FLOOR, metric) and not _below(gaps, far, FLOOR, metric):
            return _verdict(near, FLOOR, metric, values)
    return ""


def _verdict(near: str, other: str, metric: str, values: dict[str, dict[str, float]]) -> str:
    numbers = f"{values[near][metric]:.2f} is below {other}'s {values[other][metric]:.2f}"
    return f"{GUARD}: {near}'s {metric} {numbers}"


def _below(gaps: dict[tuple[str, str, str], Estimate], first: str, second: str, metric: str) -> bool:
    """Whether the first arm's share is below the second's, the interval of the difference without 0."""
    if (first, second, metric) in gaps:
        return gaps[first, second, metric].high < 0
    found = gaps.get((second, first, metric))
    return found is not None and found.low > 0


def _set(matching: Matching, name: str, drawn: Drawn) -> _Set:
    rows = matching.sets[name]
    names = slide_units(rows.table) if name in (REAL, *FLOORS) else rows.table["sample_id"]
    return _Set(rows.features[drawn.rows], names.iloc[drawn.rows].astype(str).tolist(), drawn.combinations)


def _absent(reason: str) -> _Measured:
    nothing = _Set(np.empty((0, 0)), [], np.empty(0, dtype=np.int64))
    return _Measured(nothing, {metric: Estimate(np.nan, reason=reason) for metric in metrics()})


def _measured(real: _Set, arm: str, made: _Set, matched: str, draws: int, key: Sequence[Key]) -> _Measured:
    x, y = real.features, made.features
    notes = [*_notes({REAL: real, arm: made}), matched]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return _Measured(made, {metric: Estimate(np.nan).noting(*notes) for metric in metrics()})
    distances = real.products.blocks(y).distances()
    bandwidth, met = median_bandwidth(distances.first), meetings(distances)
    kernel = rbf(distances, bandwidth) if bandwidth > 0 else None
    values = {"frechet": Estimate(frechet_distance(x, y)).noting(_few_rows(*x.shape))}
    values |= _kernel_values(real, made, kernel, draws, (*key, arm)) | _met_values(met)
    values["duplicates"] = Estimate(1 - made.distinct / len(y))
    values |= {name: _registered(name, x, y) for name in metrics() if name not in METRICS}
    spread = jackknife(distances, cluster_index(made.clusters) % GROUPS) if draws else None
    if few := _few_images(len(x)):
        values |= {name: Estimate(np.nan, reason=few) for name in DISTANCES}
    return _Measured(made, {name: values[name].noting(*notes) for name in metrics()}, kernel, met, spread)


def _registered(name: str, x: Features, y: Features) -> Estimate:
    """A metric of the user's, whose failure is named."""
    try:
        value = float(registry("metric")[name](x, y))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise MediError(f"metric {name}: failed on features {list(x.shape)} and {list(y.shape)} ({said})") from error
    return Estimate(value, reason="" if np.isfinite(value) else f"{name} is undefined here")


def _kernel_values(
    real: _Set, made: _Set, kernel: Blocks | None, draws: int, key: Sequence[Key]
) -> dict[str, Estimate]:
    """MMD with the p-value of "one distribution" from one image a slide, and KID."""
    scaled = real.standardised
    kid = unbiased(cubic(scaled.blocks(made.features), int(np.count_nonzero(scaled.scale))))
    if kernel is None:
        return {"mmd2": Estimate(np.nan, reason="the median distance of real embeddings is 0"), "kid": Estimate(kid)}
    p = _one_distribution(real, made, draws, key) if draws else np.nan
    return {"mmd2": Estimate(unbiased(kernel), p_value=p), "kid": Estimate(kid)}


def _one_distribution(real: _Set, made: _Set, permutations: int, key: Sequence[Key]) -> float:
    """The permutation test on one image of each real slide and as many of the arm: these are independent."""
    x, y = (data.features[np.unique(data.clusters, return_index=True)[1]] for data in (real, made))
    rng, n = generator("one a slide", *key), min(len(x), len(y))
    x, y = x[rng.permutation(len(x))[:n]], y[rng.permutation(len(y))[:n]]
    return mmd_test(x, y, permutations=permutations, key=key)


def _met_values(met: Neighbours | None) -> dict[str, Estimate]:
    if met is not None:
        return {name: Estimate(value) for name, value in met.values().items()}
    reason = f"fewer than {NEIGHBOURS + 1} images have no {NEIGHBOURS}th neighbour"
    return {name: Estimate(np.nan, reason=reason) for name in ("precision", "recall", "density", "coverage")}


def _notes(pair: dict[str, _Set]) -> list[str]:
    """What a reader must know before trusting any measure."""
    notes = []
    for name, data in pair.items():
        features, distinct = data.features, data.distinct
        broken = int((~np.isfinite(features).all(axis=1)).sum())
        if broken:
            notes.append(f"{broken} of {len(features)} {name} embeddings are not finite")
        elif distinct == 1:
            notes.append(f"all {len(features)} {name} embeddings are the same")
        elif distinct < len(features):
            notes.append(f"{len(features) - distinct} of {len(features)} {name} embeddings repeat others")
    return notes


def _few_rows(n: int, d: int) -> str:
    return f"n <= d ({n} <= {d}): distance rewards collapse" if n <= d else ""


def _few_images(n: int) -> str:
    return f"{n} images are too few for a distance; {LEAST_IMAGES} are needed" if n < LEAST_IMAGES else ""


@dataclass(frozen=True)
class _Spread:
    """What intervals come from: draws by metric and arm; Frechet distances with parts left out by arm, for this target
    alone (`own`) and as for all targets that share slides with it (`joint`), which `linked` names."""

    draws: dict[str, dict[str, Draws]]
    own: dict[str, LeftOut]
    joint: dict[str, LeftOut]
    linked: str


def _spread(
    real: _Set, found: dict[str, _Measured], slides: Slides, linked: Slides, draws: int, key: tuple[Key, ...]
) -> _Spread:
    """Nothing of a target that has one slide and shares it with no other."""
    first = linked.stratum[real.clusters[0]]
    members, own = linked.members[first], sorted(set(real.clusters))
    if len(members) < 2:
        return _Spread({}, {}, {}, first)
    whole = {arm: part for arm, part in found.items() if np.isfinite(part.values["frechet"].value)}
    made = {arm: part.data for arm, part in whole.items() if arm != FLOOR}
    alone = _left_out(real, made, own, slides, (*key[:2], first))
    joint = alone if own == members else _left_out(real, made, members, slides, (*key[:2], first))
    return _Spread(_resample(real, whole, slides, draws, key), alone, joint, first)


def _left_out(
    real: _Set, made: dict[str, _Set], members: Sequence[str], slides: Slides, key: Sequence[Key]
) -> dict[str, LeftOut]:
    """The Frechet distances of every arm with these slides and parts of its images left out."""
    strata = {name: slides.stratum[name] for name in members}
    found = {}
    for arm, data in made.items():
        leaving = Leaving.of(real.clusters, data.combinations, strata, key)
        found[arm] = LeftOut.of(real.features, data.features, leaving)
    return found


def _resample(
    real: _Set, whole: dict[str, _Measured], slides: Slides, draws: int, key: Sequence[Key]
) -> dict[str, dict[str, Draws]]:
    """Per metric and arm its draws, all with the same resampled real slides."""
    counts = slides.counts(real.clusters, draws, key[:2])
    kernels = {arm: part.kernel for arm, part in whole.items() if arm != FLOOR and part.kernel}
    own = {arm: _own_counts(whole[arm].data, draws, (*key, arm)) for arm in kernels}
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1e-9)
    return {
        "mmd2": {arm: resampled_mmd2(kernel, counts, own[arm]) for arm, kernel in kernels.items()},
        **{metric: _shares(metric, whole, shares, key) for metric in GUARDED},
    }


def _own_counts(data: _Set, draws: int, key: Sequence[Key]) -> Counts:
    """An arm's images, resampled within their combinations."""
    return cluster_counts(data.clusters, data.combinations, draws=draws, key=key)


def _shares(metric: str, found: dict[str, _Measured], shares: Counts, key: Sequence[Key]) -> dict[str, Draws]:
    """Recall or coverage over resampled real rows, and a normal term for the choice of the arm's images."""
    drawn = {}
    for arm, part in found.items():
        if part.met is not None and part.errors is not None:
            hits = part.met.recalled if metric == "recall" else part.met.covered
            noise = generator("jackknife", *key, arm, metric).standard_normal(len(shares))
            drawn[arm] = shares @ hits.astype(np.float64) + part.errors[metric] * noise
    return drawn


def _result(
    target: Target,
    found: dict[str, _Measured],
    spread: _Spread,
    slides: frozenset[str],
    degrees: int,
    draws: int,
) -> Result:
    arms = [arm for arm in found if arm not in FLOORS]
    pairs = [*pairs_of(arms, 2), *((arm, FLOOR) for arm in arms)]
    differences: dict[Pair, dict[str, Estimate]] = {}
    paired: dict[Pair, dict[str, Draws]] = {}
    for pair in pairs:
        first, second = (found[arm].values for arm in pair)
        resampled = GUARDED if FLOOR in pair else tuple(metric for metric in DIFFERENCES if metric != "frechet")
        paired[pair] = {metric: _paired(spread.draws.get(metric, {}), pair, draws) for metric in resampled}
        gaps = {metric: difference(_gap(first, second, metric), paired[pair][metric], degrees) for metric in resampled}
        if FLOOR not in pair:
            own = spread.own
            strata = [(1.0, own[pair[0]], own[pair[1]])] if set(pair) <= set(own) else []
            gaps = {"frechet": frechet_difference(_gap(first, second, "frechet"), strata, draws)} | gaps
        differences[pair] = {
            metric: gap.noting(first[metric].reason, second[metric].reason) for metric, gap in gaps.items()
        }
    values = {arm: part.values for arm, part in found.items()}
    sizes = [len(part.data.features) for part in found.values()]
    return Result(target, max(sizes), slides, values, guarded(values, differences), paired, spread.joint, spread.linked)


def _gap(first: Mapping[str, Estimate], second: Mapping[str, Estimate], metric: str) -> float:
    return first[metric].value - second[metric].value


def guarded(
    values: dict[str, dict[str, Estimate]], differences: dict[Pair, dict[str, Estimate]]
) -> dict[Pair, dict[str, Estimate]]:
    """The same differences, "closer" withheld from distances of collapsed arms."""
    shares = {arm: {metric: estimate.value for metric, estimate in found.items()} for arm, found in values.items()}
    gaps = {(*pair, metric): found[metric] for pair, found in differences.items() for metric in GUARDED}
    out = {}
    for pair, found in differences.items():
        distances = [metric for metric in ("frechet", "mmd2") if metric in found]
        notes: dict[str, str] = {metric: withheld(pair, found[metric].value, shares, gaps) for metric in distances}
        out[pair] = {metric: each.noting(notes.get(metric, "")) for metric, each in found.items()}
    return out


def _paired(drawn: dict[str, Draws], pair: Pair, draws: int) -> Draws:
    undefined = np.full(draws, np.nan)
    return drawn.get(pair[0], undefined) - drawn.get(pair[1], undefined)
