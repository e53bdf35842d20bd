"""A linear adversary that reads the site: the game of DANN (Ganin et al., JMLR 2016) with its solution in closed form.

An encoder h = U' x keeps what tells the class and hides the site, while two players read each from h. Where all are
linear with squared losses, no gradient is reversed: U is made of the eigenvectors of B_y - w B_a with a positive value,
x whitened, B the squared covariance with the dummies of class and of site (Sadeghi, Yu and Boddeti, ICCV 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float64

from medi.evaluation.classify.heads.aligned import Aligned, Moved
from medi.evaluation.classify.heads.contract import Setting
from medi.evaluation.classify.heads.energy import Scaled
from medi.evaluation.classify.heads.inner import pairs_of
from medi.evaluation.classify.heads.sites import known_sites
from medi.evaluation.features import Embedded, Features

SMALL = 1e-9  # an eigenvalue below is none
NOTHING = "the adversary leaves nothing that tells the class"
WEIGHTED = tuple(Setting(c, adversary=w) for w in (0.1, 1.0, 10.0) for c in (1e-4, 1e-2, 1.0))


@dataclass(frozen=True)
class Encoder:
    """x -> U' x, one number fewer than classes, 0 for a direction that the adversary has taken."""

    scaled: Scaled
    axes: Float64[np.ndarray, "d k"]

    def apply(self, rows: Embedded) -> Features:
        return self.scaled(rows.features) @ self.axes


@dataclass(frozen=True)
class Game:
    """What the players know of standardised training rows: their principal axes, and covariances with dummies there.

    count: rows; spread [d]: the variance along each axis; dummies have mean 0 and variance 1, so that classes and sites
    count alike.
    """

    scaled: Scaled
    count: int
    spread: Float64[np.ndarray, " d"]
    basis: Float64[np.ndarray, "d d"]
    classes: Float64[np.ndarray, "d k"]
    sites: Float64[np.ndarray, "d s"]

    @classmethod
    def of(cls, rows: Embedded, over: Sequence[str]) -> "Game":
        """From rows that belong to a combination; `Undefined` where site and class cannot be told apart."""
        rows, _ = known_sites(rows, over)
        scaled = Scaled.of(rows.features)
        x = scaled(rows.features)
        spread, basis = np.linalg.eigh(x.T @ x / len(x))
        turned = (x @ basis).T / len(x)
        label, site = pairs_of(rows.table, over).T
        return cls(scaled, len(x), np.maximum(spread, 0), basis, turned @ _dummies(label), turned @ _dummies(site))

    def encoder(self, c: float, weight: float) -> Encoder:
        """The encoder's best answer, all players with a ridge of 1 / (C n); weight: what the adversary counts."""
        root = np.sqrt(self.spread + 1 / (c * self.count))
        gains = np.concatenate([self.classes, self.sites], axis=1) / root[:, None]
        signs = np.repeat([1.0, -weight], [self.classes.shape[1], self.sites.shape[1]])
        span, inside = np.linalg.qr(gains)  # B has no direction beside these
        values, vectors = np.linalg.eigh((inside * signs) @ inside.T)
        kept = (vectors * (values > SMALL))[:, 1 - self.classes.shape[1] :]
        return Encoder(self.scaled, (self.basis / root) @ span @ kept)


def adversary(rows: Embedded, over: Sequence[str], settings: Sequence[Setting]) -> list[Moved]:
    """The logistic regression on what the encoder leaves, for each penalty and weight of the adversary."""
    game, made = Game.of(rows, over), []
    for setting in settings:
        encoder = game.encoder(setting.c, setting.adversary)
        (found,) = Aligned(partial(_given, encoder))(rows, over, [setting])
        made.append(found if encoder.axes.any() else replace(found, reason=NOTHING))
    return made


def _given(encoder: Encoder, rows: Embedded, over: Sequence[str]) -> Encoder:
    """The map of `Aligned`, found before."""
    return encoder


def _dummies(codes: np.ndarray) -> Float64[np.ndarray, "n k"]:
    """A column for each code, with mean 0 and variance 1."""
    members = np.eye(codes.max() + 1)[codes]
    return (members - members.mean(axis=0)) / members.std(axis=0)
