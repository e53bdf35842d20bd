"""CRM, compositional risk minimisation (Mahajan et al., ICML 2025): energies of class and site that add up.

p(x | y, a) is exp(s_y(x) + s_a(x)) / Z(y, a) with linear scores s. Training fits s_y + s_a + b(y, a) to the seen
combinations; the bias of all follows from the same scores, B(y, a) = log mean_x exp(s_y + s_a) / sum_seen exp(s + b).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.special import logsumexp, softmax

from medi.evaluation.classify.heads.contract import Probabilities, Setting, numbered, sites_of
from medi.evaluation.classify.heads.energy import Plane, Problem, Scaled, in_parts
from medi.evaluation.classify.heads.inner import pairs_of
from medi.evaluation.classify.heads.sites import Sites, known_sites
from medi.evaluation.features import Embedded, Features


@dataclass(frozen=True)
class Energies:
    """p(y | x, a) from s_y(x) - B(y, a), classes alike; for a site that training has not, of all its sites together.

    classes, sites: the rows of weights in this order; bias [k, s]: B of every combination, seen or not.
    """

    classes: tuple[str, ...]
    over: tuple[str, ...]
    sites: Sites
    scaled: Scaled
    weights: Float64[np.ndarray, "p d"]
    bias: Float64[np.ndarray, "k s"]
    reason: str = ""

    def probabilities(self, features: Features, table: pd.DataFrame) -> Probabilities:
        """The site's own score is the same for all classes and cancels where the site is known."""
        site, k = numbered(sites_of(table, self.over), self.sites), len(self.classes)
        scores = self.scaled(features) @ self.weights.T
        found = scores[:, :k] - self.bias.T[site]
        for row in np.flatnonzero(site < 0):
            found[row] = scores[row, :k] + logsumexp(scores[row, k:] - self.bias, axis=1)
        return softmax(found, axis=1)


def crm(rows: Embedded, over: Sequence[str], settings: Sequence[Setting]) -> list[Energies]:
    """The additive energies of training rows, for each penalty."""
    rows, sites = known_sites(rows, over)
    classes = tuple(sorted(set(rows.table["class"])))
    seen, targets = np.unique(pairs_of(rows.table, over), axis=0, return_inverse=True)
    members = np.concatenate([np.eye(len(classes))[seen[:, 0]], np.eye(len(sites))[seen[:, 1]]], axis=1)
    scaled = Scaled.of(rows.features)
    problem = Problem(scaled(rows.features), targets.ravel(), members, np.zeros((1, len(seen))))
    made = []
    for plane in problem.path([setting.c for setting in settings]):
        bias = extrapolated(problem, plane, len(classes))
        made.append(Energies(classes, tuple(over), sites, scaled, plane.weights, bias, plane.fault))
    return made


def extrapolated(problem: Problem, plane: Plane, classes: int) -> Float64[np.ndarray, "k s"]:
    """B of every class at every site; of a seen combination it is log(its share) - b, where the fit has converged."""
    scores = problem.x @ plane.weights.T
    logs = []
    for part in in_parts(len(scores)):
        total = logsumexp(scores[part] @ problem.members.T + plane.bias, axis=1)
        every = scores[part, :classes, None] + scores[part, None, classes:]
        logs.append(logsumexp(every - total[:, None, None], axis=0))
    return logsumexp(logs, axis=0) - np.log(len(scores))
