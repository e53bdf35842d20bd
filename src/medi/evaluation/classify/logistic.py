"""Many weighted logistic regressions on one matrix at once: folds, penalties, seeds and ratios share every product.

Problem j minimises C_j sum_i s_ij loss(y_i, x_i W_j + b_j) + |W_j|^2 / 2, scikit-learn's objective. All move together
by L-BFGS, preconditioned by the Hessian of the pooled rows, which is factored once for every C.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

TOLERANCE = 1e-4  # of the largest entry of the mean loss's gradient, as scikit-learn has it
ITERATIONS = 400
MEMORY = 10  # pairs that L-BFGS remembers
ELEMENTS = 6_000_000  # scores of one batch of problems
SPARSE = 0.7  # share of rows in use below which the others are left out
ARMIJO = 1e-4
ROUNDING = 1e-6  # relative, of a mean loss in float32

Weights = Float[np.ndarray, "m n"]
Scores = Float32[np.ndarray, "m c n"]
Flat = Float64[np.ndarray, "m p"]  # parameters or gradient of each problem, c rows of d weights and a bias


@dataclass(frozen=True)
class Rows:
    """What the problems share: x [n, d], targets [c, n] and the eigenvectors and eigenvalues of x^T x / n.

    Two classes have one score, that of the second (c = 1); more have one each.
    """

    x: Float32[np.ndarray, "n d"]
    targets: Float32[np.ndarray, "c n"]
    basis: Float32[np.ndarray, "d d"]
    spectrum: Float32[np.ndarray, " d"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n k"]) -> "Rows":
        """x: standardised features; targets: the share of each class in each row, rows sum to 1."""
        single = np.ascontiguousarray(x, dtype=np.float32)
        spectrum, basis = np.linalg.eigh(single.T @ single / np.float32(len(single)))
        return cls(single, _scored(targets), basis, np.maximum(spectrum, 0))

    def part(self, which: Bool[np.ndarray, " n"]) -> "Rows":
        """Some of the rows; the factors of all are near enough for them."""
        return Rows(self.x[which], self.targets[:, which], self.basis, self.spectrum)

    def scores(self, planes: "Planes") -> Scores:
        flat = planes.weights.reshape(-1, self.x.shape[1]).astype(np.float32) @ self.x.T
        scores = flat.reshape(*planes.bias.shape, len(self.x))
        return scores + planes.bias[..., None].astype(np.float32)


@dataclass(frozen=True)
class Planes:
    """Solutions of m problems: weights [m, c, d], bias [m, c]."""

    weights: Float64[np.ndarray, "m c d"]
    bias: Float64[np.ndarray, "m c"]

    def __len__(self) -> int:
        return len(self.bias)

    def __getitem__(self, which: slice | np.ndarray) -> "Planes":
        return Planes(self.weights[which], self.bias[which])

    def flat(self) -> Flat:
        return np.concatenate([self.weights, self.bias[..., None]], axis=2).reshape(len(self), -1)

    @classmethod
    def of(cls, flat: Flat, c: int) -> "Planes":
        parts = flat.reshape(len(flat), c, -1)
        return cls(parts[..., :-1], parts[..., -1])

    @classmethod
    def joined(cls, parts: "list[Planes]") -> "Planes":
        return cls(np.concatenate([p.weights for p in parts]), np.concatenate([p.bias for p in parts]))


def solve(
    rows: Rows,
    weights: Weights,
    c: Float64[np.ndarray, " m"],
    start: Planes | None = None,
    tolerance: float = TOLERANCE,
) -> Planes:
    """The planes of m problems: row weights s [m, n] (0: the row is not there) and inverse penalties C [m].

    start: planes from which to go on, such as the same problem's with a few other rows.
    """
    used = np.asarray(weights.any(axis=0))
    if used.mean() < SPARSE:  # rows that no problem has cost as much as others
        rows, weights = rows.part(used), weights[:, used]
    size = max(1, ELEMENTS // rows.targets.size)
    parts = []
    for first in range(0, len(weights), size):
        chunk = slice(first, first + size)
        parts.append(_Batch.of(rows, weights[chunk], c[chunk]).run(None if start is None else start[chunk], tolerance))
    return Planes.joined(parts)


def steepness(rows: Rows, weights: Weights, c: Float64[np.ndarray, " m"], planes: Planes) -> Float64[np.ndarray, " m"]:
    """The largest entry of the gradient of each mean loss: at most `TOLERANCE` where the solver has converged."""
    return np.abs(_Batch.of(rows, weights, c)._at(planes.flat()).slope).max(axis=1)


def losses(scores: Scores, targets: Float32[np.ndarray, "c n"]) -> tuple[Float32[np.ndarray, "m n"], Scores]:
    """Cross-entropy of each row, and probability minus target of each row and score."""
    if len(targets) == 1:
        far = np.exp(-np.abs(scores))
        loss = np.log(1 + far) + np.maximum(scores, 0) - targets * scores
        return loss[:, 0], np.where(scores >= 0, 1, far) / (1 + far) - targets
    shifted = scores - scores.max(axis=1, keepdims=True)
    power = np.exp(shifted)
    total = power.sum(axis=1, keepdims=True)
    loss = np.log(total[:, 0]) - np.einsum("mcn,cn->mn", shifted, targets)
    return loss, power / total - targets


def _scored(targets: Float[np.ndarray, "n k"]) -> Float32[np.ndarray, "c n"]:
    kept = targets[:, 1:] if targets.shape[1] == 2 else targets
    return np.ascontiguousarray(kept.T, dtype=np.float32)


@dataclass
class _State:
    """Where the problems of a batch are: parameters, scores, mean loss, and what is left of the gradient."""

    flat: Flat
    scores: Scores
    value: Float64[np.ndarray, " m"]
    slope: Flat


@dataclass
class _Batch:
    """Problems that move together. shares [m, n]: row weights over their sum; ridge [m]: 1 / (C sum of weights)."""

    rows: Rows
    shares: Float32[np.ndarray, "m n"]
    ridge: Float64[np.ndarray, " m"]
    pairs: deque[tuple[Flat, Flat, Float64[np.ndarray, " m"]]] = field(default_factory=lambda: deque(maxlen=MEMORY))
    gain: Float64[np.ndarray, " m"] = field(default_factory=lambda: np.ones(1))

    @classmethod
    def of(cls, rows: Rows, weights: Weights, c: Float64[np.ndarray, " m"]) -> "_Batch":
        total = weights.sum(axis=1, dtype=np.float64)
        return cls(rows, (weights / total[:, None]).astype(np.float32), 1 / (c * total), gain=np.ones(len(c)))

    def run(self, start: Planes | None, tolerance: float) -> Planes:
        width = len(self.rows.targets) * (self.rows.x.shape[1] + 1)
        found = np.zeros((len(self.shares), width)) if start is None else start.flat()
        state, left = self._at(found), np.arange(len(found))
        for _ in range(ITERATIONS):
            going = np.abs(state.slope).max(axis=1) > tolerance
            found[left[~going]] = state.flat[~going]
            if not going.any():
                return Planes.of(found, len(self.rows.targets))
            if not going.all():
                state, left = self._keep(going, state), left[going]
            state = self._advance(state)
        found[left] = state.flat
        return Planes.of(found, len(self.rows.targets))

    def _at(self, flat: Flat) -> _State:
        scores = self.rows.scores(Planes.of(flat, len(self.rows.targets)))
        loss, residual = losses(scores, self.rows.targets)
        return _State(flat, scores, self._value(loss, flat), self._slope(residual, flat))

    def _keep(self, going: Bool[np.ndarray, " m"], state: _State) -> _State:
        """Leave out the problems that are done."""
        self.shares, self.ridge, self.gain = self.shares[going], self.ridge[going], self.gain[going]
        self.pairs = deque([(s[going], y[going], r[going]) for s, y, r in self.pairs], maxlen=MEMORY)
        return _State(state.flat[going], state.scores[going], state.value[going], state.slope[going])

    def _advance(self, state: _State) -> _State:
        move = -self._descent(state.slope)
        along = self.rows.scores(Planes.of(move, len(self.rows.targets)))
        drop = (state.slope * move).sum(axis=1)
        step, value, residual = self._search(state, move, along, drop)
        flat = state.flat + step[:, None] * move
        scores = state.scores + step[:, None, None].astype(np.float32) * along
        slope = self._slope(residual, flat)
        self._remember(step[:, None] * move, slope - state.slope)
        return _State(flat, scores, value, slope)

    def _search(
        self, state: _State, move: Flat, along: Scores, drop: Float64[np.ndarray, " m"]
    ) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " m"], Scores]:
        """Steps halved until the loss falls enough; scores are linear in the step, so that a trial costs no product."""
        step, value, residual = np.ones(len(drop)), np.empty(len(drop)), np.empty_like(along)
        trying = np.arange(len(drop))
        for _ in range(30):
            length = step[trying]
            scores = state.scores[trying] + length[:, None, None].astype(np.float32) * along[trying]
            loss, residual[trying] = losses(scores, self.rows.targets)
            value[trying] = self._value(loss, state.flat[trying] + length[:, None] * move[trying], trying)
            bound = state.value[trying] + ARMIJO * length * drop[trying] + ROUNDING * np.abs(state.value[trying])
            trying = trying[value[trying] > bound]
            if not len(trying):
                break
            step[trying] /= 2
        return step, value, residual

    def _value(
        self, loss: Float32[np.ndarray, "m n"], flat: Flat, which: slice | np.ndarray = slice(None)
    ) -> Float64[np.ndarray, " m"]:
        weights = Planes.of(flat, len(self.rows.targets)).weights
        mean = (self.shares[which] * loss).sum(axis=1, dtype=np.float64)
        return mean + self.ridge[which] / 2 * (weights**2).sum(axis=(1, 2))

    def _slope(self, residual: Scores, flat: Flat) -> Flat:
        pulled = self.shares[:, None] * residual
        planes = Planes.of(flat, len(self.rows.targets))
        data = (pulled.reshape(-1, len(self.rows.x)) @ self.rows.x).reshape(planes.weights.shape)
        return Planes(data + self.ridge[:, None, None] * planes.weights, pulled.sum(axis=2, dtype=np.float64)).flat()

    def _descent(self, slope: Flat) -> Flat:
        """The inverse Hessian, as L-BFGS knows it, times the slope."""
        q, factors = slope.copy(), []
        for s, y, rho in reversed(self.pairs):
            factors.append(rho * (s * q).sum(axis=1))
            q -= factors[-1][:, None] * y
        q = self.gain[:, None] * self._preconditioned(q)
        for (s, y, rho), factor in zip(self.pairs, reversed(factors)):
            q += (factor - rho * (y * q).sum(axis=1))[:, None] * s
        return q

    def _preconditioned(self, flat: Flat) -> Flat:
        """The slope over the Hessian of rows whose classes are equally likely."""
        c, planes = len(self.rows.targets), Planes.of(flat, len(self.rows.targets))
        bend = 0.25 if c == 1 else (c - 1) / c**2
        turned = planes.weights.reshape(-1, self.rows.x.shape[1]).astype(np.float32) @ self.rows.basis
        scale = 1 / (bend * self.rows.spectrum + self.ridge[:, None])
        scaled = turned.reshape(planes.weights.shape) * scale[:, None]
        back = scaled.reshape(turned.shape).astype(np.float32) @ self.rows.basis.T
        return Planes(back.reshape(planes.weights.shape).astype(np.float64), planes.bias / bend).flat()

    def _remember(self, s: Flat, y: Flat) -> None:
        """A pair without curvature (rounding near the optimum) gets no weight."""
        bend = (s * y).sum(axis=1)
        sound = bend > 1e-10 * (s * s).sum(axis=1)
        rho = np.divide(1.0, bend, out=np.zeros_like(bend), where=sound)
        size = (y * self._preconditioned(y)).sum(axis=1)
        self.gain = np.where(sound & (size > 0), np.divide(bend, size, out=self.gain.copy(), where=size > 0), self.gain)
        self.pairs.append((s, y, rho))
