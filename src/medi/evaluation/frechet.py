"""Frechet distance of two sets of features, exact without d x d matrices (Heusel et al. 2017, section "FID").

FD = |mean_x - mean_y|^2 + Tr S_x + Tr S_y - 2 Tr sqrt(S_x S_y), and Tr sqrt(S_x S_y) is the nuclear norm of
R_x R_y^T for any roots R^T R = S: the centred rows themselves where n <= d, their QR factor where n > d.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

Features = Float[np.ndarray, "_n _d"]  # any number of rows


@dataclass(frozen=True)
class Moments:
    """Mean [d] and a root [min(n, d), d] of the covariance (divisor n - 1): root^T root = S."""

    mean: Float64[np.ndarray, " d"]
    root: Float64[np.ndarray, "k d"]


def moments(x: Float[np.ndarray, "n d"], counts: Float64[np.ndarray, " n"] | None = None) -> Moments:
    """Moments of the rows of x [n, d], row i taken counts[i] times (once without counts), in float64."""
    if counts is not None:
        x, counts = x[counts > 0], counts[counts > 0]
    weights = np.ones(len(x)) if counts is None else counts
    rows = x.astype(np.float64)
    mean = weights @ rows / weights.sum()
    centred = (rows - mean) * np.sqrt(weights / (weights.sum() - 1))[:, None]
    root = np.asarray(np.linalg.qr(centred, mode="r")) if len(rows) > rows.shape[1] else centred
    return Moments(mean, root)


def moments_distance(x: Moments, y: Moments) -> float:
    """The Frechet distance of two Gaussians with these moments; singular covariances are fine."""
    spread = np.sum(x.root**2) + np.sum(y.root**2)
    overlap = np.linalg.svd(x.root @ y.root.T, compute_uv=False).sum()
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
    ys_counts: Sequence[Float64[np.ndarray, "draws _m"]],
) -> Float64[np.ndarray, "draws arms"]:
    """FD(x, y) of every y for each draw, with the same resampled x for all of them: for paired differences.

    A percentile interval of FD itself never covers its estimate (resampling adds bias); that of a difference does.
    """
    out = np.empty((len(x_counts), len(ys)))
    for draw, row in enumerate(out):
        reference = moments(x, x_counts[draw])
        row[:] = [moments_distance(reference, moments(y, c[draw])) for y, c in zip(ys, ys_counts)]
    return out
