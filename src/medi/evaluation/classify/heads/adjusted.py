"""Logit adjustment (Menon et al., ICLR 2021) by site: softmax(W x + b + log p(y | a)) in training, W x + b in the test.

What the site tells of the class is given to the model in training, so that the image need not tell it once more. A
class that a site has not is ruled out there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from medi.evaluation.classify.heads.contract import Probabilities, Setting
from medi.evaluation.classify.heads.energy import NO, Plane, Problem, Scaled
from medi.evaluation.classify.heads.inner import pairs_of
from medi.evaluation.classify.heads.sites import known_sites
from medi.evaluation.features import Embedded, Features


@dataclass(frozen=True)
class Adjusted:
    """softmax(W x + b): the classes as if every site had them alike."""

    classes: tuple[str, ...]
    scaled: Scaled
    plane: Plane

    @property
    def reason(self) -> str:
        return self.plane.fault

    def probabilities(self, features: Features, table: pd.DataFrame) -> Probabilities:
        return softmax(self.scaled(features) @ self.plane.weights.T + self.plane.bias, axis=1)


def logit_adjustment(rows: Embedded, over: Sequence[str], settings: Sequence[Setting]) -> list[Adjusted]:
    """A plane for each penalty; shares of classes are those of training rows at each site."""
    rows, sites = known_sites(rows, over)
    classes = tuple(sorted(set(rows.table["class"])))
    labels, site = pairs_of(rows.table, over).T
    counts = np.zeros((len(sites), len(classes)))
    np.add.at(counts, (site, labels), 1)
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(counts / counts.sum(axis=1, keepdims=True)), NO)
    scaled = Scaled.of(rows.features)
    problem = Problem(scaled(rows.features), labels, np.eye(len(classes)), logs[site])
    return [Adjusted(classes, scaled, plane) for plane in problem.path([setting.c for setting in settings])]
