"""What `fidelity` and `utility` refuse or leave out by tables and names alone, before a patch is embedded."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.progress import Show
from medi.core.set_names import FILTERED, GAP, ONLY, parts_of
from medi.evaluation.classify.arms import Arm, check_arms, check_reference, reference_of
from medi.evaluation.classify.crossed import check_heads
from medi.evaluation.classify.stained import STAIN
from medi.evaluation.classify.utility import check, check_head
from medi.evaluation.features import REAL, Embedded
from medi.evaluation.splits import has_class, spelled_alike


def refuse_unknown(
    arms: Sequence[str],
    head: str,
    reference: str,
    synthetic: Sequence[str],
    more: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> None:
    """Names that are not known, before a patch is embedded. more: other arms than those of every measure."""
    check_head(head)
    check_heads(heads)
    check_reference(reference, synthetic)
    check_arms(arms, reference or reference_of(synthetic), ("stains", *STAIN, *more))


def refuse_sets(
    train: Cohort,
    sets: Mapping[str, Cohort],
    tests: Mapping[str, Cohort],
    over: Sequence[str],
    attributes: Sequence[str],
) -> None:
    """Names, lacking columns, and patients or patches that train and test, before a patch is embedded (P5)."""
    refuse_names(sets, over)
    refuse_made(sets)
    arms = [Arm(name, bare(part)) for name, part in {REAL: train, **sets}.items()]
    check(arms, {name: bare(part) for name, part in tests.items()}, over, attributes)


def refuse_names(sets: Collection[str], over: Sequence[str]) -> None:
    """A set that is called like a column of the combinations: in tables both would be one column."""
    if clash := set(sets) & set(over):
        raise MediError(f"the name {min(clash)!r} is that of a column; call that set something else")


def refuse_made(sets: Collection[str]) -> None:
    """Names of training sets that a comparison makes by itself: of stains, and of another set that is given."""
    for name in sets:
        by = parts_of(name)[1]
        ending = next((end for end in (FILTERED, ONLY, GAP) if name.removesuffix(end) in set(sets) - {name}), "")
        if name in STAIN or by or ending:
            why = f"after {by} normalisation" if by else "made by the comparison itself"
            raise MediError(f"the name {name!r} stands for patches {why}; call that set something else")


def bare(cohort: Cohort) -> Embedded:
    """The table of a cohort beside no features; what made its features is not known yet."""
    return Embedded(np.empty((len(cohort), 0)), cohort.table.drop(columns="encoder", errors="ignore"))


def with_class(name: str, cohort: Cohort, show: Show) -> Cohort:
    """The patches that have a class, unknown levels all spelled ""; how many are left out is said."""
    cohort = spelled_alike(cohort)
    known = has_class(cohort)
    if known.all():
        return cohort
    if not known.any():
        raise MediError(f"{name}: no patch has a class; name its column when the source is read (--label)")
    show.line(f"{name}: {(~known).sum():,} of {len(known):,} patches have no class and are left out")
    return cohort.select(known)
