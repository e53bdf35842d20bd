"""Precision, recall, density and coverage from nearest neighbours: is an image real-looking, is all of reality there?

Precision and recall after Kynkaanniemi et al. (NeurIPS 2019, equations 1 and 2), density and coverage after Naeem et
al. (ICML 2020, equations 3 and 4). Each row of a set is the centre of a ball that reaches its k-th nearest neighbour
in that set; a point counts where it lies in a ball of the other set. All four grow or fall with n: equal n only (P8).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.spatial.distance import cdist

NEIGHBOURS = 5


@dataclass(frozen=True)
class Neighbours:
    """Which synthetic rows [m] lie in a real ball, in how many on average (`density`); which real rows [n] are met.

    `recalled`: the real row lies in a synthetic ball. `covered`: its own ball holds a synthetic row.
    """

    precise: Bool[np.ndarray, " m"]
    density: float
    recalled: Bool[np.ndarray, " n"]
    covered: Bool[np.ndarray, " n"]

    def values(self) -> dict[str, float]:
        """The four shares by name; density alone may exceed 1."""
        shares = {"precision": self.precise.mean(), "recall": self.recalled.mean(), "coverage": self.covered.mean()}
        return {name: float(value) for name, value in shares.items()} | {"density": self.density}


def neighbours(
    real: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> Neighbours | None:
    """The neighbourhoods of synthetic rows [m, d] among real ones [n, d]; None where a set has no k-th neighbour.

    Equal n and m: the user's duty. None too where a feature is not finite.
    """
    if min(len(real), len(synthetic)) <= k or not (np.isfinite(real).all() and np.isfinite(synthetic).all()):
        return None
    across = cdist(real.astype(np.float64), synthetic.astype(np.float64))
    real_reach, synthetic_reach = reach(real, k), reach(synthetic, k)
    held = across <= real_reach[:, None]
    return Neighbours(
        precise=held.any(axis=0),
        density=float(held.sum() / (k * held.shape[1])),
        recalled=(across <= synthetic_reach[None, :]).any(axis=1),
        covered=held.any(axis=1),
    )


def reach(rows: Float[np.ndarray, "n d"], k: int) -> Float64[np.ndarray, " n"]:
    """The distance of each row to its k-th nearest other row."""
    z = rows.astype(np.float64)
    return np.asarray(np.partition(cdist(z, z), k, axis=1)[:, k])  # each row is the nearest to itself
