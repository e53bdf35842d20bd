"""Training sets under heads as confounding grows: at each Cramer's V as many training rows, and the same test rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medi.cohort.confounding import confounded, cramers_v, joint_level
from medi.core.progress import Advance, unheard
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.crossed import crossed
from medi.evaluation.classify.scoring import ORACLE
from medi.evaluation.features import Embedded

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEST = "test"  # the one key of the tests of a set that embeds them anew


@one_thread
def swept(
    sets: Sequence[Arm],
    test: Embedded,
    heads: Sequence[str],
    *,
    over: Sequence[str],
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
    progress: Advance = unheard,
) -> pd.DataFrame:
    """`crossed` at each strength, with the columns `strength` (asked for) and `cramers_v` (of the rows that train).

    sets: the real rows first, then sets of the same rows in the same order, which may embed the test rows anew under
    the key `TEST`. The oracle is added: the real rows, and other real ones until each combination has as many as
    without confounding. progress: strengths done. MediError where the rows are not crossed enough.
    """
    table = sets[0].rows.table
    drawn = confounded(table, over, [0.0, *strengths], seed)
    whole, asked, parts = drawn[0], joint_level(test.table, over), []
    for done, (strength, rows) in enumerate(zip(strengths, drawn[1:]), start=1):
        seen = asked.isin(joint_level(table.iloc[rows], over)).to_numpy()
        splits = {"seen": seen, "unseen": ~seen}
        splits = {name: which for name, which in splits.items() if which.any()}
        arms = [_part(arm, rows, splits) for arm in sets]
        arms.append(Arm(ORACLE, sets[0].rows.take(np.union1d(rows, whole))))
        tests = {name: test.take(which) for name, which in splits.items()}
        found = crossed(arms, tests, heads, over=over, seed=seed, seeds=(seed,))
        parts.append(found.assign(strength=strength, cramers_v=cramers_v(table.iloc[rows], over)))
        progress(done, len(strengths))
    return pd.concat(parts, ignore_index=True)


def _part(arm: Arm, rows: np.ndarray, splits: dict[str, np.ndarray]) -> Arm:
    """The set at these training rows, its own test rows by split."""
    moved = None if arm.tests is None else {name: arm.tests[TEST][which] for name, which in splits.items()}
    return Arm(arm.name, arm.rows.take(rows), tests=moved, reason=arm.reason)
