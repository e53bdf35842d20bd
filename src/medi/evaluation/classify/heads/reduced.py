"""Embeddings cut to their principal components before a head, where they have many numbers: a matter of time alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float64

from medi.evaluation.classify.heads.contract import Classifier, Head, Probabilities, Trained
from medi.evaluation.features import Embedded, Features, scales

WIDE = KEPT = 1024  # numbers a patch above which they are cut, and to how many: fewer lose much where spectra are flat


@dataclass(frozen=True)
class Components:
    """x -> V' (x - mean) / scale for the first components of real training rows (P5)."""

    mean: Float64[np.ndarray, " d"]
    axes: Float64[np.ndarray, "d k"]

    @classmethod
    def of(cls, x: Features, kept: int = KEPT) -> "Components":
        """Of the correlations of training rows [n, d]."""
        mean, scale = x.mean(axis=0, dtype=np.float64), scales(x)
        z = ((x - mean) / scale).astype(np.float32)
        _, vectors = np.linalg.eigh(z.T @ z)
        return cls(mean, vectors[:, ::-1][:, :kept].astype(np.float64) / scale[:, None])

    def apply(self, x: Features) -> Float64[np.ndarray, "n k"]:
        """The components of rows."""
        return (x - self.mean) @ self.axes


@dataclass(frozen=True)
class Shortened:
    """A classifier that sees components."""

    components: Components
    classifier: Classifier

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    @property
    def reason(self) -> str:
        return self.classifier.reason

    def probabilities(self, features: Features, table: pd.DataFrame) -> Probabilities:
        return self.classifier.probabilities(self.components.apply(features), table)


@dataclass(frozen=True)
class OnComponents:
    """A head behind components that were fixed before."""

    head: Head
    components: Components

    def __call__(self, rows: Embedded, over: Sequence[str], seed: int) -> Trained:
        found = as_trained(self.head(Embedded(self.components.apply(rows.features), rows.table), over, seed))
        return replace(found, classifier=Shortened(self.components, found.classifier))


def as_trained(found: Classifier) -> Trained:
    """The same beside an inner score, unknown where a head of the user's has none."""
    return found if isinstance(found, Trained) else Trained(found, reason=found.reason)
