"""Logistic regressions whose scores are sums of parts, with an offset per row: what CRM and logit adjustment minimise.

Scores of row x: P x summed by members, plus bias and offset; the loss is sum_i CE_i / n + |P|^2 / (2 C n), as in
`logistic`, and convex. Features are whitened by the curvature at zero, so that L-BFGS takes few steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.optimize import minimize

from medi.evaluation.features import scales

TOLERANCE = 3e-4  # of the largest entry of the gradient in whitened parameters
SLACK = 5  # times the tolerance: what still counts as converged, where rounding ends the search
ITERATIONS, MEMORY = 300, 40  # steps, and pairs that L-BFGS remembers
NO = -50.0  # log of a share that is 0


@dataclass(frozen=True)
class Scaled:
    """Standardised features of training rows, and how other rows become such."""

    mean: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]

    @classmethod
    def of(cls, x: np.ndarray) -> "Scaled":
        return cls(x.mean(axis=0, dtype=np.float64), scales(x))

    def __call__(self, x: np.ndarray) -> Float64[np.ndarray, "n d"]:
        return (x.astype(np.float64) - self.mean) / self.scale


@dataclass(frozen=True)
class Plane:
    """weights [p, d] of the parts, bias [m] of the outputs; fault: why it is not to be trusted."""

    weights: Float64[np.ndarray, "p d"]
    bias: Float64[np.ndarray, " m"]
    fault: str = ""


@dataclass(frozen=True)
class Problem:
    """x [n, d] standardised; targets [n]: the output of each row; members [m, p]: the parts of each output."""

    x: Float64[np.ndarray, "n d"]
    targets: Int64[np.ndarray, " n"]
    members: Float64[np.ndarray, "m p"]
    offsets: Float64[np.ndarray, "#n m"]

    def path(self, penalties: Sequence[float]) -> list[Plane]:
        """The solution for each C, in the order given; each begins where the one before it ended."""
        values, vectors = np.linalg.eigh(self.x.T @ self.x / len(self.x))
        turned = (self.x @ vectors).astype(np.float32)
        found: dict[float, Plane] = {}
        last = Plane(np.zeros((self.members.shape[1], self.x.shape[1])), np.zeros(len(self.members)))
        for c in sorted(set(penalties)):
            last = self._solved(turned, np.maximum(values, 0), 1 / (c * len(self.x)), last)
            found[c] = replace(last, weights=last.weights @ vectors.T)
        return [found[c] for c in penalties]

    def _solved(
        self, turned: Float32[np.ndarray, "n d"], values: Float64[np.ndarray, " d"], ridge: float, start: Plane
    ) -> Plane:
        """One C, on features turned to their principal axes; unknowns are over the roots of the loss's curvature."""
        q, of_bias = self._roots(values, ridge)
        size = q.size

        rows, offsets = np.arange(len(turned)), self.offsets.T

        def loss(flat: Float64[np.ndarray, " u"]) -> tuple[float, Float64[np.ndarray, " u"]]:
            """Outputs lie along the first axis, so that sums over them run over whole rows of memory."""
            weights, bias = flat[:size].reshape(q.shape) * q, flat[size:] * of_bias
            scores = self.members @ (turned @ weights.T.astype(np.float32)).T + bias[:, None] + offsets
            own, peak = scores[self.targets, rows], scores.max(axis=0)
            residual = np.exp(scores - peak)
            total = residual.sum(axis=0)
            residual /= total
            residual[self.targets, rows] -= 1
            residual /= len(rows)
            slope = (self.members.T @ residual).astype(np.float32) @ turned + ridge * weights
            mean = (np.log(total) + peak - own).mean()
            flat_slope = np.append((slope * q).ravel(), residual.sum(axis=1) * of_bias)
            return float(mean + ridge / 2 * np.square(weights).sum()), flat_slope

        first = np.append((start.weights / q).ravel(), start.bias / of_bias)
        options: dict[str, Any] = {"maxiter": ITERATIONS, "gtol": TOLERANCE, "ftol": 0, "maxcor": MEMORY}
        found = minimize(loss, first, jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
        steep = float(np.abs(found.jac).max())
        fault = "" if steep <= SLACK * TOLERANCE else f"did not converge in {ITERATIONS} steps: slope {steep:.1e}"
        return Plane(found.x[:size].reshape(q.shape) * q, found.x[size:] * of_bias, fault)

    def _roots(
        self, values: Float64[np.ndarray, " d"], ridge: float
    ) -> tuple[Float64[np.ndarray, "p d"], Float64[np.ndarray, " m"]]:
        """One over the root of the curvature of each weight and bias, where scores tell no more than shares do."""
        share = np.maximum(np.bincount(self.targets, minlength=len(self.members)) / len(self.targets), 1e-4)
        of_part = share @ self.members
        bend = np.maximum(of_part * (1 - of_part), 1e-4)
        return 1 / np.sqrt(bend[:, None] * values + ridge), 1 / np.sqrt(share)


def in_parts(rows: int, most: int = 4096) -> Iterator[slice]:
    """Slices of so many rows, so that scores of all of them need not be in memory."""
    return (slice(first, first + most) for first in range(0, rows, most))
