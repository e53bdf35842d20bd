"""Everything there is against what is free: the utility stage of a study, as two tables."""

from collections.abc import Mapping, Sequence

import pandas as pd

from medi.core.errors import MediError
from medi.core.progress import Advance, unheard
from medi.evaluation.classify.arms import Arm, reference_of, standard_arms
from medi.evaluation.classify.regimes import curves
from medi.evaluation.classify.scoring import ORACLE, REAL
from medi.evaluation.classify.utility import check, fit_arms, measure
from medi.evaluation.features import Embedded


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
    only: Sequence[str] = ("all",),
    reference: str = "",
    progress: Advance = unheard,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Utility and curves of every arm that real training rows, synthetic sets and the oracle's rows can make.

    real: training rows; synthetic: the rows that each generator adds, by arm ("cls", "medi", any other); oracle: real
    rows of the combinations that training lacks; stained: what `arms.stain_arms` made; only: names of arms to compare
    beside the real rows and the synthetic sets ("all", or "none"); progress is told the arms done and
    their number. The tables are those of
    `utility.evaluate` and of `regimes.curves`, these for the given sets and under the preset "tuned" alone.
    """
    reference = reference or reference_of(synthetic)
    if reference not in (*synthetic, ""):
        raise MediError(f"reference {reference!r} is no synthetic set; there are {', '.join(synthetic) or 'none'}")
    check([Arm(REAL, real), *(Arm(name, rows) for name, rows in synthetic.items())], tests, over, attributes)
    made = [
        *standard_arms(real, synthetic, tests, over=over, seed=seed, oracle=oracle, preset=preset, reference=reference),
        *stained,
    ]
    arms = _asked(made, {REAL, ORACLE, *synthetic}, only)
    check(arms, tests, over, attributes)
    fitted = fit_arms(arms, over, seeds or (seed,), preset, progress)
    compared = [reference, *(name for name in synthetic if name != reference)] if synthetic else []
    table = measure(arms, fitted, tests, over=over, seed=seed, attributes=attributes, compared=compared)
    drawn = [arm for arm in arms if arm.name in (REAL, ORACLE, *synthetic) and preset == "tuned"]
    return table, curves(drawn, tests, over=over, seeds=seeds or (seed,), fitted=fitted)


def _asked(arms: Sequence[Arm], given: set[str], only: Sequence[str]) -> list[Arm]:
    """The arms that are given, and those asked for by name."""
    if "all" in only:
        return list(arms)
    known = [arm.name for arm in arms]
    if unknown := [name for name in only if name not in (*known, "none")]:
        raise MediError(f"arm {unknown[0]!r} is unknown; known: all, stains, none, {', '.join(known)}")
    return [arm for arm in arms if arm.name in given or arm.name in only]
