"""Kernel distances of two sets of features: unbiased at any n, unlike the Frechet distance.

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), the expectations over pairs of different rows (Gretton et al., JMLR
2012, equation 3). The RBF kernel's bandwidth is the median distance of real rows (section 8 there); the Kernel
Inception Distance has the kernel (x y / d + 1)^3 (Binkowski et al., ICLR 2018, section 3), here on features that
are standardised by the real ones, so that no feature of large units decides alone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial.distance import cdist, pdist

from medi.seeds import Key, generator

Kernel = Float64[np.ndarray, "n n"]


def median_bandwidth(x: Float[np.ndarray, "n d"]) -> float:
    """The median distance of different rows of x [n, d], in feature units; NaN for fewer than two."""
    return float(np.median(pdist(x.astype(np.float64)))) if len(x) > 1 else float("nan")


def mmd2(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], bandwidth: float) -> float:
    """Unbiased squared MMD of x [n, d] and y [m, d] with k = exp(-|x - y|^2 / (2 bandwidth^2)); it may be below 0.

    NaN for fewer than two rows, features that are not finite, or a bandwidth of 0 (constant features).
    """
    if not (_usable(x, y) and bandwidth > 0):
        return float("nan")
    return unbiased(rbf(np.concatenate([x, y]), bandwidth), len(x))


def kid(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Unbiased Kernel Inception Distance of y [m, d] from real x [n, d], both standardised by x; may be below 0.

    NaN for fewer than two rows or features that are not finite. Features that are constant in x are left out.
    """
    if not _usable(x, y):
        return float("nan")
    mean, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    z = (np.concatenate([x, y])[:, scale > 0] - mean[scale > 0]) / scale[scale > 0]
    return unbiased((z @ z.T / max(z.shape[1], 1) + 1.0) ** 3, len(x))


def mmd_test(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, permutations: int, key: Sequence[Key]
) -> float:
    """p-value of "one distribution": the share of permutations with an MMD at least as large, the data's own included.

    The bandwidth is the median distance of all rows, which permutations leave as it is. It takes rows for
    independent: give one row per slide where patches of a slide resemble each other.
    """
    rows = np.concatenate([x, y])
    bandwidth = median_bandwidth(rows)
    if not (_usable(x, y) and bandwidth > 0):
        return float("nan")
    kernel, rng = rbf(rows, bandwidth), generator("mmd", *key)
    orders = [rng.permutation(len(rows)) for _ in range(permutations)]
    found = unbiased(kernel, len(x))
    larger = sum(unbiased(kernel[np.ix_(order, order)], len(x)) >= found for order in orders)
    return (1 + larger) / (1 + permutations)


def rbf(rows: Float[np.ndarray, "n d"], bandwidth: float) -> Kernel:
    """k of every pair of rows [n, n]."""
    z = rows.astype(np.float64)
    return np.exp(-cdist(z, z, "sqeuclidean") / (2 * bandwidth**2))


def unbiased(kernel: Kernel, n: int) -> float:
    """MMD^2 of the first n rows and the others, from the kernel of all; pairs of a row with itself do not count."""
    m = len(kernel) - n
    inner, outer = kernel[:n, :n], kernel[n:, n:]
    within = (inner.sum() - np.trace(inner)) / (n * (n - 1)) + (outer.sum() - np.trace(outer)) / (m * (m - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def _usable(x: np.ndarray, y: np.ndarray) -> bool:
    return min(len(x), len(y)) >= 2 and bool(np.isfinite(x).all() and np.isfinite(y).all())
