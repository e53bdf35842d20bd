"""Frechet distance of two sets of features, exact without d x d matrices (Heusel et al. 2017, section "FID").

FD = |mean_x - mean_y|^2 + Tr S_x + Tr S_y - 2 Tr sqrt(S_x S_y), and Tr sqrt(S_x S_y) is the nuclear norm of
R_x R_y^T for any roots R^T R = S: the centred rows themselves where n <= d, their QR factor where n > d.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float, Float64
from scipy.linalg import lapack

from medi.evaluation.features import Features

Counts = Float64[np.ndarray, "draws _m"]
Draws = Float64[np.ndarray, " draws"]
GRAM_ROWS, GRAM_LEAST = 1.5, 100  # resampled from inner products up to so many rows per feature, or at all


@dataclass(frozen=True)
class Moments:
    """Of `count` rows the mean [d] and a root [min(n, d), d] of the covariance (divisor n - 1): root^T root = S."""

    count: float
    mean: Float64[np.ndarray, " d"]
    root: Float64[np.ndarray, "k d"]


def moments(x: Float[np.ndarray, "n d"], counts: Float64[np.ndarray, " n"] | None = None) -> Moments:
    """Moments of the rows of x [n, d], row i taken counts[i] times (once without counts), in float64."""
    if counts is not None:
        x, counts = x[counts > 0], counts[counts > 0]
    weights = np.ones(len(x)) if counts is None else counts
    rows = x.astype(np.float64)
    mean = weights @ rows / weights.sum()
    centred = (rows - mean) * np.sqrt(weights / max(weights.sum() - 1, 1))[:, None]
    return Moments(float(weights.sum()), mean, _shortened(centred))


def merged(first: Moments, second: Moments) -> Moments:
    """Moments of the rows of both, as if they had been one set: no covariance is formed, so no digit is lost."""
    count = first.count + second.count
    apart = (second.mean - first.mean) * np.sqrt(first.count * second.count / count)
    parts = [np.sqrt(max(part.count - 1, 0)) * part.root for part in (first, second)]
    root = _shortened(np.concatenate([*parts, apart[None, :]]) / np.sqrt(count - 1))
    return Moments(count, first.mean + (second.mean - first.mean) * second.count / count, root)


def streamed(batches: Iterable[Features]) -> Moments:
    """Moments of rows that come in batches [n, d], for sets that no memory holds: batches of several d are fastest."""
    return reduce(merged, (moments(batch) for batch in batches))


def moments_distance(x: Moments, y: Moments) -> float:
    """The Frechet distance of two Gaussians with these moments; singular covariances are fine."""
    spread = np.sum(x.root**2) + np.sum(y.root**2)
    overlap = _nuclear_norm(x.root @ y.root.T)
    return max(float(np.sum((x.mean - y.mean) ** 2) + spread - 2 * overlap), 0.0)


def frechet_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """The Frechet distance of x [n, d] and y [m, d] in squared feature units; NaN for one row or features not finite.

    It is biased upwards at finite n: compare at equal n only (P8).
    """
    if min(len(x), len(y)) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    return moments_distance(moments(x), moments(y))


def resampled_distances(
    x: Float[np.ndarray, "n d"],
    ys: Sequence[Float[np.ndarray, "_m d"]],
    x_counts: Float64[np.ndarray, "draws n"],
    ys_counts: Sequence[Counts],
) -> Float64[np.ndarray, "draws arms"]:
    """FD(x, y) of every y for each draw, with the same resampled x for all of them: for paired differences.

    NaN where a draw holds fewer than two rows. A percentile interval of FD itself never covers its estimate:
    resampling adds bias. That bias is nearly the same for two sets y, so the spread of a difference is of use.
    """
    resample = _from_products if len(x) <= max(GRAM_ROWS * x.shape[1], GRAM_LEAST) else _from_roots
    centre = x.mean(axis=0, dtype=np.float64)
    rows = x.astype(np.float64) - centre
    arms = [resample(rows, y.astype(np.float64) - centre, x_counts, c) for y, c in zip(ys, ys_counts)]
    return np.stack(arms, axis=1) if arms else np.empty((len(x_counts), 0))


def _from_roots(x: Features, y: Features, x_counts: Counts, y_counts: Counts) -> Draws:
    pairs = zip(x_counts, y_counts)
    few = np.minimum(x_counts.sum(axis=1), y_counts.sum(axis=1)) < 2
    found = [np.nan if lost else moments_distance(moments(x, a), moments(y, b)) for lost, (a, b) in zip(few, pairs)]
    return np.array(found, dtype=np.float64)


def _from_products(x: Features, y: Features, x_counts: Counts, y_counts: Counts) -> Draws:
    """From the inner products of all rows: what depends on one set is a matrix product over draws."""
    across = x @ y.T
    (p, x_norm, x_spread), (q, y_norm, y_spread) = _resampled(x, x_counts), _resampled(y, y_counts)
    apart = x_norm + y_norm - 2 * np.einsum("ij,ij->i", p @ across, q)
    overlap = [_overlap(across, *each) for each in zip(p, q, x_counts, y_counts)]
    return np.maximum(apart + x_spread + y_spread - 2 * np.array(overlap, dtype=np.float64), 0.0)


def _resampled(x: Features, counts: Counts) -> tuple[Counts, Draws, Draws]:
    """Per draw the shares of the rows, the squared norm of their mean and the trace of their covariance."""
    total, products = counts.sum(axis=1), x @ x.T
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / total[:, None]
        norm = np.einsum("ij,ij->i", shares @ products, shares)
        spread = (shares @ np.diagonal(products) - norm) * total / (total - 1)
    return shares, norm, np.where(total < 2, np.nan, spread)


def _overlap(
    across: Float64[np.ndarray, "n m"],
    p: Float64[np.ndarray, " n"],
    q: Float64[np.ndarray, " m"],
    x_counts: Float64[np.ndarray, " n"],
    y_counts: Float64[np.ndarray, " m"],
) -> float:
    """Tr sqrt(S_x S_y) of one draw: rows that it lacks, a third of them, are left out."""
    i, j = np.flatnonzero(x_counts), np.flatnonzero(y_counts)
    x_total, y_total = x_counts.sum(), y_counts.sum()
    if min(x_total, y_total) < 2:
        return float("nan")
    part = across[i[:, None], j]
    part -= (part @ q[j])[:, None]
    part -= p[i] @ part
    part *= np.sqrt(x_counts[i] / (x_total - 1))[:, None]
    part *= np.sqrt(y_counts[j] / (y_total - 1))
    return _nuclear_norm(part)


def _nuclear_norm(matrix: Float64[np.ndarray, "n m"]) -> float:
    return float(lapack.dgesdd(matrix.T, compute_uv=0, overwrite_a=1)[1].sum())


def _shortened(rows: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "k d"]:
    """The same rows^T rows from d rows at most."""
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows
