"""LEACE: the least change of embeddings after which no linear rule reads the site (Belrose et al., NeurIPS 2023).

r(x) = x - W^+ P W (x - mu), W = Sigma_xx^(-1/2), P the projection onto the columns of W Sigma_xz, z the site's dummies
(theorem 4.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float64

from medi.evaluation.classify.heads.contract import Undefined, numbered, sites_of
from medi.evaluation.classify.heads.sites import known_sites
from medi.evaluation.classify.probes import codes
from medi.evaluation.features import Embedded, Features

SMALL = 1e-10  # of the largest eigenvalue or singular value: below, there is nothing


@dataclass(frozen=True)
class Erased:
    """x -> x - A (x - mu); the same for every row, whatever its site."""

    mean: Float64[np.ndarray, " d"]
    matrix: Float64[np.ndarray, "d d"]

    def apply(self, rows: Embedded) -> Features:
        x = rows.features.astype(np.float64)
        return x - (x - self.mean) @ self.matrix.T


def leace(rows: Embedded, over: Sequence[str], within: bool = False) -> Erased:
    """The site erased from training rows; `within`: from what is left of the embeddings beside the classes' means.

    `Undefined` with no more rows than dimensions: their covariance has no inverse.
    """
    rows, sites = known_sites(rows, over)
    x, site = rows.features.astype(np.float64), numbered(sites_of(rows.table, over), sites)
    if len(x) <= x.shape[1]:
        raise Undefined(f"{len(x)} training patches for {x.shape[1]} dimensions: the site's directions are not defined")
    mean, z = x.mean(axis=0), np.eye(len(sites))[site]
    groups = codes(rows.table, ["class"]) if within else np.zeros(len(x), dtype=np.int64)
    return Erased(mean, _eraser(_beside(x, groups), _beside(z, groups)))


leace_within = partial(leace, within=True)


def _beside(values: Float64[np.ndarray, "n k"], groups: np.ndarray) -> Float64[np.ndarray, "n k"]:
    """The values less the mean of their group."""
    members = np.eye(groups.max() + 1)[groups]
    return values - members @ ((members.T @ values) / members.sum(axis=0)[:, None])


def _eraser(x: Float64[np.ndarray, "n d"], z: Float64[np.ndarray, "n s"]) -> Float64[np.ndarray, "d d"]:
    """A = W^+ P W of centred rows; dimensions that do not vary are left alone."""
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    varies = values > SMALL * values.max()
    root = np.sqrt(values[varies])
    whiten = (vectors[:, varies] / root).T  # [r, d]
    left, size, _ = np.linalg.svd(whiten @ (x.T @ z) / len(x), full_matrices=False)
    basis = left[:, size > SMALL]
    return (vectors[:, varies] * root) @ basis @ basis.T @ whiten
