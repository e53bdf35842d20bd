"""Every synthetic set against every baseline that needs no generator: what a study and `medi.utility` call."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medi.core.progress import Advance, unheard
from medi.core.set_names import FILTERED, parts_of
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Arm, Material, arms_of, filtered
from medi.evaluation.classify.crossed import crossed, sets_of
from medi.evaluation.classify.regimes import curves
from medi.evaluation.classify.scoring import ORACLE, REAL
from medi.evaluation.classify.utility import check, fit_arms, measure
from medi.evaluation.features import Embedded


@one_thread
def study_arms(
    real: Embedded,
    synthetic: Mapping[str, Embedded],
    tests: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    seed: int,
    seeds: Sequence[int] | None = None,
    oracle: Embedded | None = None,
    embedded: Sequence[Arm] = (),
    head: str = "tuned",
    attributes: Sequence[str] = (),
    only: Sequence[str] = ("all",),
    reference: str = "",
    heads: Sequence[str] = (),
    progress: Advance = unheard,
) -> dict[str, pd.DataFrame]:
    """Utility and curves of every arm that real training rows, synthetic sets and the oracle's rows can make.

    real, synthetic, tests, oracle, head, reference: as in `arms.Material`; embedded: arms of other
    images, as `stained.stain_arms` and `noise.noise_arm` make them;
    only: which arms to compare beside these, as in `arms.arms_of`; heads: of the registry "head", for all
    that they suit; progress: arms and then fits done, of how many. The tables are "utility" of `utility.evaluate`,
    "curves" of `regimes.curves`, for the given sets and the head "tuned" alone, and with heads "heads" of `crossed`.
    """
    material = Material(real, synthetic, tests, tuple(over), seed, head, oracle, reference)
    check([Arm(REAL, real), *(Arm(name, rows) for name, rows in synthetic.items())], tests, over, attributes)
    own = {arm.name for arm in embedded}
    arms = [*arms_of(material, [name for name in only if name not in own]), *embedded]
    if any(arm.name == f"{material.reference}{FILTERED}" for arm in arms):  # asked for
        normalised = [arm for arm in embedded if parts_of(arm.name)[0] == material.reference and parts_of(arm.name)[1]]
        arms += [filtered(arm, len(real), material.over, seed) for arm in normalised]
    check(arms, tests, over, attributes)
    fitted = fit_arms(arms, over, seeds or (seed,), head, progress)
    table = measure(arms, fitted, tests, over=over, seed=seed, attributes=attributes, compared=material.compared)
    drawn = [arm for arm in arms if arm.name in (REAL, ORACLE, *synthetic) and head == "tuned"]
    tables = {"utility": table, "curves": curves(drawn, tests, over=over, seeds=seeds or (seed,), fitted=fitted)}
    if not heads:
        return tables
    asked: dict[str, Any] = {"over": over, "seed": seed, "seeds": seeds or (seed,), "reference": material.reference}
    return tables | {"heads": crossed(sets_of(arms, material), tests, heads, progress=progress, **asked)}
