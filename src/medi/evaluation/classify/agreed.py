"""Generated rows whose class a head agrees with that has seen real rows alone: what a training set keeps of them.

The head composes class and site (CRM), because one that does not would refuse the very images that are needed: those of
combinations in which it takes the site for the class. Where real rows teach CRM nothing, a plain head stands in.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from medi.evaluation.classify.heads import HEADS, Undefined
from medi.evaluation.classify.heads.contract import predicted
from medi.evaluation.classify.heads.reduced import WIDE, Components, OnComponents
from medi.evaluation.classify.probes import text
from medi.evaluation.features import Embedded

JUDGE, INSTEAD = "crm", "logistic"
ONE_CLASS = "real rows of one class: no head that could agree"
Kept = Bool[np.ndarray, " n"]


def agreed(real: Embedded, made: Embedded, over: Sequence[str], seed: int) -> Kept:
    """Which generated rows show what was asked for, as a head of the real rows says; `Undefined` where none can."""
    if real.table["class"].nunique() < 2:
        raise Undefined(ONE_CLASS)
    for name in (JUDGE, INSTEAD):
        head = HEADS[name]
        if real.features.shape[1] > WIDE:
            head = OnComponents(head, Components.of(real.features))
        try:
            return predicted(head(real, over, seed), made) == text(made.table["class"])
        except Undefined:
            continue
    raise Undefined("no head of the real rows could agree")
