"""The additive gap between real and synthetic rows, estimated where a combination has both, and taken away.

x = combination + g [synthetic] + rest by least squares: g is the mean difference within combinations, each with the
weight n_r n_s / (n_r + n_s). A head that estimates sites' effects would take the gap for that of the sites it fills.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float64

from medi.core.set_names import GAP
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.probes import codes
from medi.evaluation.features import Embedded


def corrected_arm(arm: Arm, reals: int, over: Sequence[str]) -> Arm:
    """The set, whose first `reals` rows are real, with the others less the gap; a reason where no combination has both.

    A set that has a reason keeps it.
    """
    name, place = f"{arm.name}{GAP}", np.arange(len(arm.rows))
    real, synthetic = arm.rows.take(place < reals), arm.rows.take(place >= reals)
    gap = None if arm.reason else gap_of(real, synthetic, over)
    if gap is None:
        why = f"no combination has both real rows and rows of {arm.name}: no gap to estimate"
        return replace(arm, name=name, reason=arm.reason or why)
    moved = Embedded((synthetic.features - gap).astype(synthetic.features.dtype), synthetic.table)
    return replace(arm, name=name, rows=real.join(moved))


def gap_of(real: Embedded, synthetic: Embedded, over: Sequence[str]) -> Float64[np.ndarray, " d"] | None:
    """What synthetic rows have more than real ones of their combination, [d]; None where no combination has both."""
    group = codes(pd.concat([real.table[list(over)], synthetic.table[list(over)]]), over)
    mine, theirs = np.split(group, [len(real)])
    both = np.intersect1d(mine, theirs)
    if not len(both):
        return None
    counts = [np.array([(of == one).sum() for one in both], dtype=np.float64) for of in (mine, theirs)]
    weights = counts[0] * counts[1] / (counts[0] + counts[1])
    apart = [synthetic.features[theirs == one].mean(axis=0) - real.features[mine == one].mean(axis=0) for one in both]
    return np.average(np.stack(apart).astype(np.float64), axis=0, weights=weights)
