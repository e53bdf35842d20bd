"""What a head must know of sites before it estimates their effects, and the maps that take these away.

Every map goes by the site of a row, not by its class: a test patch has no class yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from medi.evaluation.classify.alignment import additive
from medi.evaluation.classify.heads.contract import Undefined, numbered, sites_of
from medi.evaluation.classify.heads.inner import pairs_of, parts
from medi.evaluation.classify.probes import codes
from medi.evaluation.features import Embedded, Features, placed

Sites = tuple[tuple[str, ...], ...]
ROUNDS, CLOSE = 500, 1e-6  # of ComBat's iteration


def known_sites(rows: Embedded, over: Sequence[str]) -> tuple[Embedded, Sites]:
    """The training rows that belong to a combination, and their sites in sorted order.

    `Undefined` where the data cannot tell a site from a class: no attribute, one site, or classes and sites in parts
    that share neither (one combination a site is such a case, and so are sites in one class only).
    """
    if len(over) < 2:
        raise Undefined("no column beside the class: there is no site effect to take away")
    rows = rows.take(placed(rows.table, over))
    sites = tuple(sorted(set(sites_of(rows.table, over))))
    names = " and ".join(column for column in over if column != "class")
    if len(sites) < 2:
        raise Undefined(f"{len(sites)} level of {names} in training: there is no site effect to take away")
    pairs = np.unique(pairs_of(rows.table, over), axis=0)
    if len(pairs) == len(sites):
        raise Undefined(f"every level of {names} has one class: its effect cannot be told from the class")
    if (number := parts(pairs)) > 1:
        raise Undefined(f"class and {names} fall into {number} parts without a common level: not identifiable")
    return rows, sites


@dataclass(frozen=True)
class TwoWay:
    """x -> x - s_a for the sites a of training; a row of another site stays as it is."""

    over: tuple[str, ...]
    sites: Sites
    shifts: Float64[np.ndarray, "s d"]

    def apply(self, rows: Embedded) -> Features:
        site = numbered(sites_of(rows.table, self.over), self.sites)
        shifts = np.concatenate([self.shifts, np.zeros_like(self.shifts[:1])])  # site -1 is the last
        return rows.features.astype(np.float64) - shifts[site]


def two_way(rows: Embedded, over: Sequence[str]) -> TwoWay:
    """Additive site effects beside the classes' own: x = mu + c_y + s_a + rest, by least squares on training rows."""
    rows, sites = known_sites(rows, over)
    site = numbered(sites_of(rows.table, over), sites)
    shifts, _ = additive(rows.features.astype(np.float64), codes(rows.table, ["class"]), site)
    return TwoWay(tuple(over), sites, shifts)


@dataclass(frozen=True)
class ComBat:
    """x -> (x - m - sigma gamma_a) / delta_a + m for the sites a of training; a row of another site stays as it is.

    m: the mean of the classes, alike, as a test patch has no class yet; training rows go through the same map.
    """

    over: tuple[str, ...]
    sites: Sites
    mean: Float64[np.ndarray, " d"]
    shifts: Float64[np.ndarray, "s d"]
    scales: Float64[np.ndarray, "s d"]

    def apply(self, rows: Embedded) -> Features:
        site = numbered(sites_of(rows.table, self.over), self.sites)
        shifts = np.concatenate([self.shifts, np.zeros_like(self.shifts[:1])])
        scales = np.concatenate([self.scales, np.ones_like(self.scales[:1])])
        return (rows.features.astype(np.float64) - self.mean - shifts[site]) / scales[site] + self.mean


def combat(rows: Embedded, over: Sequence[str]) -> ComBat:
    """ComBat with the class as covariate (Johnson et al., Biostatistics 2007), parametric empirical Bayes.

    z = (x - alpha - c_y) / sigma of training rows has per site a mean gamma and a variance delta^2, drawn towards those
    of all features: a normal and an inverse gamma prior. A test row gets its site's estimates from training.
    """
    rows, sites = known_sites(rows, over)
    x, label = rows.features.astype(np.float64), codes(rows.table, ["class"])
    site = numbered(sites_of(rows.table, over), sites)
    counts = np.bincount(site)
    if (few := int(counts.argmin())) >= 0 and counts[few] < 3:
        raise Undefined(f"{'/'.join(sites[few])} has {counts[few]} training patches: no variance of its own")
    effects, rest = additive(x, label, site)
    spread = np.sqrt(np.square(rest).mean(axis=0))
    varies = spread > 1e-7 * np.abs(x).max(axis=0)
    if varies.sum() < 2:
        raise Undefined("fewer than two features vary: no prior over features")
    sigma = np.where(varies, spread, 1.0)
    z = (rest + effects[site]) / sigma
    found = [_posterior(z[site == one][:, varies]) for one in range(len(sites))]
    gamma, delta = np.zeros((2, len(sites), x.shape[1]))
    delta += 1
    gamma[:, varies], delta[:, varies] = [one[0] for one in found], [one[1] for one in found]
    centre = x - effects[site] - rest
    mean = np.stack([centre[label == one].mean(axis=0) for one in range(label.max() + 1)]).mean(axis=0)
    return ComBat(tuple(over), sites, mean, sigma * gamma, np.sqrt(delta))


def _posterior(z: Float64[np.ndarray, "n d"]) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """Posterior mean gamma and variance delta^2 of each feature of one site, by ComBat's iteration to its fixed point.

    gamma = (n t^2 g + delta^2 g0) / (n t^2 + delta^2); delta^2 = (b + sum (z - gamma)^2 / 2) / (n / 2 + a - 1).
    """
    n, g, v = len(z), z.mean(axis=0), z.var(axis=0, ddof=1)
    t2, m, s2 = g.var(ddof=1), v.mean(), v.var(ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    gamma, delta = g, v
    for _ in range(ROUNDS):
        new = (n * t2 * g + delta * g.mean()) / (n * t2 + delta)
        variance = (b + np.square(z - new).sum(axis=0) / 2) / (n / 2 + a - 1)
        change = max(_change(new, gamma), _change(variance, delta))
        gamma, delta = new, variance
        if change < CLOSE:
            return gamma, delta
    raise Undefined(f"ComBat did not converge in {ROUNDS} rounds")


def _change(new: Float64[np.ndarray, " d"], old: Float64[np.ndarray, " d"]) -> float:
    """The largest change in relation to what was there; of what was 0, the change itself."""
    return float((np.abs(new - old) / np.where(old == 0, 1.0, np.abs(old))).max())
