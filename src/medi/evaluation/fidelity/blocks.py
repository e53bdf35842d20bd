"""Products and distances of the rows of two sets, computed once for all measures that need them.

|x - y|^2 = x x + y y - 2 x y: a matrix product where a loop over pairs would take thirty times as long. Rows are
centred first, so that features far from the origin lose no digits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from medi.evaluation.features import spreads

Square = Float64[np.ndarray, "n m"]


@dataclass(frozen=True)
class Blocks:
    """A function of pairs of rows: within the first set [n, n], within the second [m, m] and across [n, m]."""

    first: Float64[np.ndarray, "n n"]
    second: Float64[np.ndarray, "m m"]
    across: Float64[np.ndarray, "n m"]

    def map(self, function: Callable[[Square], Square]) -> "Blocks":
        """The same function of every part."""
        return Blocks(function(self.first), function(self.second), function(self.across))

    def distances(self) -> "Blocks":
        """Squared distances, where these are inner products."""
        a, b = np.diagonal(self.first), np.diagonal(self.second)
        pairs = ((self.first, a, a), (self.second, b, b), (self.across, a, b))
        return Blocks(*(np.maximum(p[:, None] + q[None, :] - 2 * part, 0.0) for part, p, q in pairs))


@dataclass(frozen=True)
class Products:
    """A set of rows [n, d] with its inner products, for blocks with any number of other sets."""

    centre: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]
    rows: Float64[np.ndarray, "n d"]
    within: Float64[np.ndarray, "n n"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "n d"], standardise: bool = False) -> "Products":
        """Of x [n, d], centred at its mean; standardised, its constant features count nothing."""
        rows = x.astype(np.float64)
        centre, spread = rows.mean(axis=0), spreads(rows)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0) if standardise else spread * 0 + 1
        rows = (rows - centre) * scale
        return cls(centre, scale, rows, rows @ rows.T)

    def blocks(self, y: Float[np.ndarray, "m d"]) -> Blocks:
        """The inner products of this set and of y [m, d], which is centred and scaled alike."""
        rows = (y.astype(np.float64) - self.centre) * self.scale
        return Blocks(self.within, rows @ rows.T, self.rows @ rows.T)


def usable(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> bool:
    """Both sets have two rows or more and finite features."""
    return min(len(x), len(y)) >= 2 and bool(np.isfinite(x).all() and np.isfinite(y).all())
