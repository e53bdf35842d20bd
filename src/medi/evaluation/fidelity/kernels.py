"""Kernel distances of two sets of features: unbiased at any n, unlike the Frechet distance.

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), the expectations over pairs of different rows (Gretton et al., JMLR
2012, equation 3). The RBF kernel's bandwidth is the median distance of real rows (section 8 there); the Kernel
Inception Distance has the kernel (x y / d + 1)^3 (Binkowski et al., ICLR 2018, section 3), here on features that
are standardised by the real ones, so that no feature of large units decides alone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from medi.core.seeds import Key, generator
from medi.evaluation.fidelity.blocks import Blocks, Products, usable


def median_bandwidth(distances: Float64[np.ndarray, "n n"]) -> float:
    """The median distance of different rows from their squared distances [n, n]; NaN for fewer than two rows."""
    pairs = np.sqrt(distances[np.triu_indices(len(distances), 1)])
    return float(np.median(pairs)) if len(pairs) else float("nan")


def rbf(distances: Blocks, bandwidth: float) -> Blocks:
    """k = exp(-|x - y|^2 / (2 bandwidth^2)) from squared distances."""
    return distances.map(lambda part: np.exp(-part / (2 * bandwidth**2)))


def cubic(products: Blocks, features: int) -> Blocks:
    """KID's k = (x y / d + 1)^3 from the inner products of standardised rows, d of whose features vary."""
    return products.map(lambda part: (part / max(features, 1) + 1.0) ** 3)


def unbiased(kernel: Blocks) -> float:
    """MMD^2 from the kernel of all pairs; pairs of a row with itself do not count."""
    within = sum(
        (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1)) for part in (kernel.first, kernel.second)
    )
    return float(within - 2 * kernel.across.mean())


def mmd2(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Unbiased squared MMD of y [m, d] from real x [n, d], bandwidth the median distance in x; it may be below 0.

    NaN for fewer than two rows, features that are not finite, or constant real features (bandwidth 0).
    """
    if not usable(x, y):
        return float("nan")
    distances = Products.of(x).blocks(y).distances()
    bandwidth = median_bandwidth(distances.first)
    return unbiased(rbf(distances, bandwidth)) if bandwidth > 0 else float("nan")


def kid(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Unbiased Kernel Inception Distance of y [m, d] from real x [n, d], both standardised by x; may be below 0.

    NaN for fewer than two rows or features that are not finite. Features that are constant in x are left out.
    """
    if not usable(x, y):
        return float("nan")
    real = Products.of(x, standardise=True)
    return unbiased(cubic(real.blocks(y), int(np.count_nonzero(real.scale))))


def resampled_mmd2(
    kernel: Blocks, first: Float64[np.ndarray, "draws n"], second: Float64[np.ndarray, "draws m"]
) -> Float64[np.ndarray, " draws"]:
    """MMD^2 without its first term (real pairs, the same for every arm) when rows occur as often as counted."""
    inner = kernel.second - np.diag(np.diagonal(kernel.second))
    total = second.sum(axis=1)
    pairs = total**2 - (second**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        within = np.einsum("ij,ij->i", second @ inner, second) / pairs
        return within - 2 * np.einsum("ij,ij->i", first @ kernel.across, second) / (first.sum(axis=1) * total)


def mmd_test(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, permutations: int, key: Sequence[Key]
) -> float:
    """p-value of "one distribution": the share of permutations with an MMD at least as large, the data's own included.

    The bandwidth is the median distance of all rows, which permutations leave as it is. It takes rows for
    independent: give one row per slide where patches of a slide resemble each other.
    """
    if not usable(x, y):
        return float("nan")
    distances = Products.of(np.concatenate([x, y])).blocks(x[:0]).distances().first
    bandwidth = median_bandwidth(distances)
    if not bandwidth > 0:
        return float("nan")
    kernel = np.exp(-distances / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0.0)
    first = np.tile(np.arange(len(kernel)) < len(x), (permutations + 1, 1))
    first[1:] = generator("mmd", *key).permuted(first[1:], axis=1)
    found = _split_mmd2(kernel, first.astype(np.float64))
    return float((found >= found[0] - 1e-12 * abs(found[0])).mean())


def _split_mmd2(
    kernel: Float64[np.ndarray, "n n"], sides: Float64[np.ndarray, "draws n"]
) -> Float64[np.ndarray, " draws"]:
    """Unbiased MMD^2 of the rows marked 1 and the others, for each marking; the kernel's diagonal is 0."""
    n, m = sides[0].sum(), (1 - sides[0]).sum()
    held, rest = sides @ kernel, (1 - sides) @ kernel
    inner, outer = (held * sides).sum(axis=1) / (n * (n - 1)), (rest * (1 - sides)).sum(axis=1) / (m * (m - 1))
    return inner + outer - 2 * (held * (1 - sides)).sum(axis=1) / (n * m)
