"""Heads x training sets: every set under every head that is named, tested where none has trained.

A set is compared with others under the same head, under the soft vote of all its heads ("soft_vote"), and each under
the head that its own inner hold-out chose ("chosen"): test patches choose nothing. `crossed_scores` measures.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from medi.core.choice import VOTE
from medi.core.errors import MediError, did_you_mean
from medi.core.progress import Advance, unheard
from medi.core.registry import registry
from medi.core.set_names import FILTERED, parts_of
from medi.evaluation.classify import heads as _brought  # noqa: F401  fills the registry
from medi.evaluation.classify.arms import INDUCTIVE, Arm, Material
from medi.evaluation.classify.crossed_scores import AND, CHOSEN, Fit, Split, adjusted, inner_row
from medi.evaluation.classify.gap import corrected_arm
from medi.evaluation.classify.heads.contract import Head, Trained, Undefined
from medi.evaluation.classify.heads.reduced import WIDE, Components, OnComponents, as_trained
from medi.evaluation.classify.heads.vote import SoftVote
from medi.evaluation.classify.reweighting import plain
from medi.evaluation.classify.scoring import EVERY
from medi.evaluation.classify.utility import LAST, lacks_classes
from medi.evaluation.features import Embedded

PLAIN = "logistic"  # the head of the table `utility`
OWN_ALIGNMENT = ("coral",)  # sets that are a head's map already
FIRST = ("metric", "head", "arm", "against", "split", "scope")


def check_heads(names: Sequence[str]) -> None:
    """Refuse a name that is no head."""
    known = list(registry("head"))
    if unknown := [name for name in names if name not in known]:
        near = did_you_mean(unknown[0], known)
        raise MediError(f"head {unknown[0]!r} is unknown; known: {', '.join(known)}{near}")


def sets_of(arms: Sequence[Arm], material: Material) -> list[Arm]:
    """The arms that any head suits, and each synthetic set once more without the gap to real rows.

    Not those that weigh or mix rows, align sites by themselves, train on a part, or have seen test rows.
    """
    plain_ones = [arm for arm in arms if arm.method is plain and arm.trains is None and arm.panel == INDUCTIVE]
    found = [arm for arm in plain_ones if arm.name not in OWN_ALIGNMENT]
    names = {*material.synthetic, f"{material.reference}{FILTERED}"}
    generated = [arm for arm in found if parts_of(arm.name)[0] in names]
    corrected = [corrected_arm(arm, len(material.real), material.over) for arm in generated]
    return [*found, *(corrected if len(material.over) > 1 else [])]


def crossed(
    sets: Sequence[Arm],
    tests: Mapping[str, Embedded],
    names: Sequence[str],
    *,
    over: Sequence[str],
    seed: int,
    seeds: Sequence[int],
    reference: str = "",
    progress: Advance = unheard,
) -> pd.DataFrame:
    """Each set under each head, as rows of `core.tables.HEADS`: "mean_recall" with its interval, and "worst_five".

    names: heads of the registry; reference: the set that is compared with every other; all are compared with "real".
    "mean_recall_difference" has p-values, by Holm over all sets and heads of a split. Head "chosen" is each set's own,
    and "inner_recall" is what chose it. Head "soft_vote" is the mean of what all heads say, where there are two. A set
    that a head does not suit is NaN with the reason (P7). progress: fits done, of how many.
    """
    check_heads(names)
    fits = _fitted(sets, names, over, seeds, progress)
    own = [[fit for fit in fits if fit.arm.name == arm.name] for arm in sets]
    more = [_chosen(of_set) for of_set in own] + [_voted(of_set) for of_set in own if len(of_set) > 1]
    every = next(iter(tests.values())).join(*list(tests.values())[1:])
    rows = [inner_row(fit) for fit in fits]
    for split, test in (*tests.items(), (EVERY, every)):
        rows += Split(split, test, tests, tuple(over), seed).rows([*fits, *more], reference)
    table = pd.DataFrame(rows).reindex(columns=[*FIRST, *LAST])
    return adjusted(table.fillna({"reason": "", "against": ""}))


def _fitted(
    sets: Sequence[Arm], names: Sequence[str], over: Sequence[str], seeds: Sequence[int], progress: Advance
) -> list[Fit]:
    """All fits; long embeddings are cut by components of the first set, except for the head of the table `utility`."""
    found: list[Fit] = []
    heads = _heads(sets[0].rows, names)
    for arm in sets:
        for name, head in heads.items():
            found.append(_fit(arm, name, head, over, seeds))
            progress(len(found), len(sets) * len(names))
    return found


def _heads(rows: Embedded, names: Sequence[str]) -> dict[str, Head]:
    heads: dict[str, Head] = {name: registry("head")[name] for name in names}
    if rows.features.shape[1] <= WIDE or set(names) == {PLAIN}:
        return heads
    components = Components.of(rows.features)
    return {name: head if name == PLAIN else OnComponents(head, components) for name, head in heads.items()}


def _fit(arm: Arm, name: str, head: Head, over: Sequence[str], seeds: Sequence[int]) -> Fit:
    if why := lacks_classes(arm):
        return Fit(name, arm, reason=why)
    try:
        return Fit(name, arm, tuple(as_trained(head(arm.rows, over, seed)) for seed in seeds))
    except Undefined as error:
        return Fit(name, arm, reason=str(error))


def _chosen(fits: Sequence[Fit]) -> Fit:
    """The fit of one set with the highest inner score, the first of equals."""
    scores = np.array([fit.inner for fit in fits])
    if np.isnan(scores).all():
        return Fit(CHOSEN, fits[0].arm, reason="no inner hold-out: no head is chosen")
    best = fits[int(np.nanargmax(scores.round(9)))]
    return Fit(CHOSEN, best.arm, best.trained, by=best.head)


def _voted(fits: Sequence[Fit]) -> Fit:
    """The soft vote of one set's heads, seed by seed; of those that suit it."""
    able = [fit for fit in fits if fit.trained]
    if not able:
        return Fit(VOTE, fits[0].arm, reason="no head can be fitted")
    trained = (Trained(SoftVote(members)) for members in zip(*(fit.trained for fit in able)))
    return Fit(VOTE, fits[0].arm, tuple(trained), by=AND.join(fit.head for fit in able))
