"""Everything there is against what is free: the utility stage of a study, as two tables."""

from collections.abc import Mapping, Sequence

import pandas as pd

from medi.evaluation.arms import Arm, standard_arms
from medi.evaluation.fidelity import Embedded
from medi.evaluation.regimes import curves
from medi.evaluation.scoring import CLS, MEDI, ORACLE, REAL
from medi.evaluation.utility import check, fit_arms, measure


def study_arms(
    real: Embedded,
    synthetic: Mapping[str, Embedded],
    tests: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    seed: int,
    seeds: Sequence[int] | None = None,
    oracle: Embedded | None = None,
    stained: Sequence[Arm] = (),
    preset: str = "tuned",
    attributes: Sequence[str] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Utility and curves of every arm that real training rows, synthetic sets and the oracle's rows can make.

    real: training rows; synthetic: the rows that each generator adds, by arm ("cls", "medi", any other); oracle: real
    rows of the combinations that training lacks; stained: what `arms.stain_arms` made. The tables are those of
    `utility.evaluate` and of `regimes.curves`, these for real, CLS, MeDi, oracle and under the preset "tuned" alone.
    """
    arms = [*standard_arms(real, synthetic, tests, over=over, seed=seed, oracle=oracle, preset=preset), *stained]
    check(arms, tests, over, attributes)
    fitted = fit_arms(arms, over, seeds or (seed,), preset)
    table = measure(arms, fitted, tests, over=over, seed=seed, attributes=attributes)
    drawn = [arm for arm in arms if arm.name in (REAL, CLS, MEDI, ORACLE, *synthetic) and preset == "tuned"]
    return table, curves(drawn, tests, over=over, seeds=seeds or (seed,), fitted=fitted)
