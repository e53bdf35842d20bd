"""Several classifiers as one, their soft vote: the mean of the probabilities that they give, all alike.

Source: Kittler et al., On combining classifiers, IEEE Transactions on Pattern Analysis and Machine Intelligence 1998,
section 2, the sum rule for classes that are equally likely.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medi.evaluation.classify.heads.contract import Classifier, Probabilities, columns_of
from medi.evaluation.features import Features


@dataclass(frozen=True)
class SoftVote:
    """The mean of the probabilities of `members`; a class that a member does not know has probability 0 there."""

    members: tuple[Classifier, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({name for member in self.members for name in member.classes}))

    @property
    def reason(self) -> str:
        return "; ".join(dict.fromkeys(filter(None, (member.reason for member in self.members))))

    def probabilities(self, features: Features, table: pd.DataFrame) -> Probabilities:
        told = [(member.probabilities(features, table), member.classes) for member in self.members]
        return np.mean([columns_of(found, own, self.classes) for found, own in told], axis=0)
