"""Sites made alike in the space of embeddings: by what training knows of them, or by what the test shows of them.

CORAL (Sun and Saenko 2016) recolours one set to the covariance of another; here every training site to that of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from medi.evaluation.classify.probes import codes
from medi.evaluation.features import Embedded, Features

SHRINKAGE = 20.0  # rows of the common covariance that every site's own is mixed with
RIDGE = 1e-3  # of the common variances, so that no direction is divided by nothing

Place = tuple[str, ...]


@dataclass(frozen=True)
class Coral:
    """x -> common + (x - site's mean) A_site for the sites of training; others stay as they are.

    Means and covariances are estimated beside the classes' own means, so that a class which only one site has is not
    taken for the site. A test row goes by its site's label, never by other test rows.
    """

    places: Sequence[str]
    shifts: dict[Place, Float64[np.ndarray, " d"]]
    maps: dict[Place, Float64[np.ndarray, "d d"]]
    mean: Float64[np.ndarray, " d"]

    @classmethod
    def fit(cls, rows: Embedded, over: Sequence[str]) -> "Coral":
        """From training rows; `over` less the class is what makes a site."""
        places = [column for column in over if column != "class"]
        x, table = rows.features.astype(np.float64), rows.table
        site, names = _numbered(table, places)
        label = codes(table, ["class"])
        effects, residuals = additive(x, label, site)
        common = residuals.T @ residuals / len(x) + RIDGE * np.diag(residuals.var(axis=0) + 1e-12)
        maps = {}
        for number, name in enumerate(names):
            own = residuals[site == number]
            covariance = (own.T @ own + SHRINKAGE * common) / (len(own) + SHRINKAGE)
            covariance += RIDGE * np.diag(np.diag(common))
            maps[name] = _power(covariance, -0.5) @ _power(common, 0.5)
        return cls(tuple(places), dict(zip(names, effects)), maps, x.mean(axis=0))

    def apply(self, rows: Embedded) -> Features:
        """The moved embeddings [n, d]."""
        out = rows.features.astype(np.float64).copy()
        site, names = _numbered(rows.table, self.places)
        for number, name in enumerate(names):
            if name in self.maps:
                here = site == number
                out[here] = self.mean + (out[here] - self.mean - self.shifts[name]) @ self.maps[name]
        return out.astype(rows.features.dtype, copy=False)  # as precise as they came: double costs memory alone


def centred(sets: Mapping[str, Embedded], over: Sequence[str]) -> dict[str, Features]:
    """Every site's mean over all its rows in all sets taken away, whatever their classes.

    With tests among the sets this is transductive: it needs many unlabelled test rows of a site, and takes a site that
    has one class for that class.
    """
    places = [column for column in over if column != "class"]
    x = np.concatenate([rows.features.astype(np.float64) for rows in sets.values()])
    site, names = _numbered(pd.concat([rows.table[places] for rows in sets.values()]), places)
    means = np.stack([x[site == number].mean(axis=0) for number in range(len(names))])
    ends = np.cumsum([len(rows) for rows in sets.values()])
    kinds = [rows.features.dtype for rows in sets.values()]
    parts = np.split(x - means[site], ends[:-1])
    return {name: part.astype(kind, copy=False) for name, part, kind in zip(sets, parts, kinds)}


def _numbered(table: pd.DataFrame, places: Sequence[str]) -> tuple[Int64[np.ndarray, " n"], list[Place]]:
    """The number of each row's site and the sites' names, in sorted order."""
    site = codes(table, places)
    first = np.unique(site, return_index=True)[1]
    return site, [tuple(row) for row in table[list(places)].iloc[first].itertuples(index=False, name=None)]


def additive(
    x: Float64[np.ndarray, "n d"], label: Int64[np.ndarray, " n"], site: Int64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "s d"], Float64[np.ndarray, "n d"]]:
    """Least squares effects of sites in x = class + site + rest, and the rest; what cannot be told apart is halved."""
    classes = label.max() + 1
    members = np.concatenate([np.eye(classes)[label], np.eye(site.max() + 1)[site]], axis=1)
    effects = np.linalg.pinv(members.T @ members, hermitian=True) @ (members.T @ x)
    sites = effects[classes:] - effects[classes:][site].mean(axis=0)
    return sites, x - members @ effects


def _power(matrix: Float64[np.ndarray, "d d"], exponent: float) -> Float64[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-12) ** exponent) @ vectors.T
