"""Heads that change the embeddings first: the logistic regression of `probes` on what a map of the rows leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from medi.evaluation.classify.heads.contract import Probabilities, Setting, Trained, Undefined, inner_scores
from medi.evaluation.classify.heads.inner import inner_folds
from medi.evaluation.classify.logistic import TOLERANCE, Planes, solve, steepness
from medi.evaluation.classify.probes import GRID, Pool, Probe, tuned
from medi.evaluation.classify.reweighting import combination_weights
from medi.evaluation.features import Embedded, Features

SLACK = 10  # times the solver's tolerance: what still counts as converged
ROWS_ALIKE = tuple(Setting(c) for c in GRID)
COMBINATIONS_ALIKE = tuple(Setting(c, True) for c in GRID)
EITHER = (*ROWS_ALIKE, *COMBINATIONS_ALIKE)


@runtime_checkable
class Move(Protocol):
    """A map of embeddings that training rows have fixed; it may go by the site of a row, never by its class."""

    def apply(self, rows: Embedded) -> Features: ...


Align = Callable[[Embedded, Sequence[str]], Move]  # from training rows and the columns of combinations; or `Undefined`


@dataclass(frozen=True)
class Still:
    """x -> x."""

    def apply(self, rows: Embedded) -> Features:
        return rows.features


def still(rows: Embedded, over: Sequence[str]) -> Still:
    """No map at all."""
    return Still()


@dataclass(frozen=True)
class Moved:
    """softmax(W m(x) + b) with a map m; reason: why it is not to be trusted."""

    move: Move
    probe: Probe
    reason: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.probe.classes

    def probabilities(self, features: Features, table: pd.DataFrame) -> Probabilities:
        return self.probe.probabilities(self.move.apply(Embedded(features, table)))


@dataclass(frozen=True)
class Aligned:
    """The fit of a head: a map from training rows, and one logistic regression per setting on what it leaves."""

    align: Align

    def __call__(self, rows: Embedded, over: Sequence[str], settings: Sequence[Setting]) -> list[Moved]:
        move = self.align(rows, over)
        pool = Pool.of(Embedded(move.apply(rows), rows.table), over=over)
        weights = np.concatenate([_weights(pool, setting) for setting in settings])
        c = np.array([setting.c for setting in settings])
        planes = solve(pool.rows, weights, c)
        steep = steepness(pool.rows, weights, c, planes)
        each = [planes[np.array([i])] for i in range(len(c))]
        return [Moved(move, pool.probe(each[i], c[i]), _fault(float(steep[i]))) for i in range(len(c))]


def logistic(rows: Embedded, over: Sequence[str], seed: int) -> Trained:
    """softmax(W x + b), classes alike, C over patients: the head "tuned" of `probes`, with an inner score beside it."""
    pool = Pool.of(rows, over=over).dealt(rows.table, seed)
    probe = tuned(pool)
    scored = slice(-len(pool.rows.targets), None)  # two classes have one score, that of the second
    planes = Planes(*(part[None, scored] for part in probe.plane))
    (steep,) = steepness(pool.rows, pool.balanced(pool.weights), np.array([probe.c]), planes)
    if fault := _fault(float(steep)):
        raise Undefined(fault)
    found, reason = inner_folds(rows.table, over, seed)
    setting = Setting(probe.c)
    (inner,) = inner_scores(Aligned(still), [setting], rows, over, found)
    return Trained(Moved(Still(), probe), setting, float(inner), "; ".join(filter(None, [probe.reason, reason])))


def _weights(pool: Pool, setting: Setting) -> np.ndarray:
    if setting.alike:
        pool = combination_weights(pool, np.random.default_rng(0))  # which draws nothing
    return pool.balanced(pool.weights)


def _fault(steep: float) -> str:
    if steep <= SLACK * TOLERANCE:
        return ""
    return f"did not converge: slope {steep:.1e} of the mean loss, {SLACK * TOLERANCE:.0e} at most"
