"""Precision, recall, density and coverage from nearest neighbours: is an image real-looking, is all of reality there?

Precision and recall after Kynkaanniemi et al. (NeurIPS 2019, equations 1 and 2), density and coverage after Naeem et
al. (ICML 2020, equations 3 and 4). Each row of a set is the centre of a ball that reaches its k-th nearest neighbour
in that set; a point counts where it lies in a ball of the other set. All four grow or fall with n: equal n only (P8).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from medi.evaluation.fidelity.blocks import Blocks, Products, usable

NEIGHBOURS = 5
ROUNDING = 1e-12  # of the largest squared norm: a row that lies on the edge of a ball is in it, however sums round


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
    if not usable(real, synthetic):
        return None
    return meetings(Products.of(real).blocks(synthetic).distances(), k)


def meetings(distances: Blocks, k: int = NEIGHBOURS) -> Neighbours | None:
    """The neighbourhoods from squared distances; None where a set has no k-th neighbour."""
    if min(distances.across.shape) <= k:
        return None
    slack = ROUNDING * float(max(part.max() for part in (distances.first, distances.second, distances.across)))
    held = distances.across <= reach(distances.first, k)[:, None] + slack
    return Neighbours(
        precise=np.asarray(held.any(axis=0)),
        density=float(held.sum() / (k * held.shape[1])),
        recalled=np.asarray((distances.across <= reach(distances.second, k)[None, :] + slack).any(axis=1)),
        covered=np.asarray(held.any(axis=1)),
    )


def reach(distances: Float64[np.ndarray, "n n"], k: int) -> Float64[np.ndarray, " n"]:
    """The squared distance of each row to its k-th nearest other row; each row is the nearest to itself."""
    return np.asarray(np.partition(distances, k, axis=1)[:, k])


def jackknife(distances: Blocks, groups: Int64[np.ndarray, " m"]) -> dict[str, float]:
    """Standard errors of recall and coverage from the choice of synthetic rows: a group of them is left out at a time.

    A bootstrap would repeat rows, and a row's own copy is its nearest neighbour. The choice of real rows is not in it.
    """
    met = [meetings(_without(distances, groups == group)) for group in np.unique(groups)]
    values = [each.values() for each in met if each is not None]
    if len(values) < max(len(met), 2):
        return {"recall": float("nan"), "coverage": float("nan")}
    factor = np.sqrt(len(values) - 1)
    return {name: float(factor * np.std([value[name] for value in values])) for name in ("recall", "coverage")}


def _without(distances: Blocks, out: Bool[np.ndarray, " m"]) -> Blocks:
    return Blocks(distances.first, distances.second[np.ix_(~out, ~out)], distances.across[:, ~out])
