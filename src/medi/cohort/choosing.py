"""Which combinations a rule holds out: named ones, folds of sites, the published split, or at random.

At random, every level must keep its training patients: a greedy choice first, integer programming where that is short.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from medi.cohort.combinations import Combinations, Ids, level_ids, over
from medi.cohort.rule import Combination, Rule
from medi.cohort.schema import Schema
from medi.core import seeds
from medi.core.errors import MediError

PUBLISHED_RATE = 0.7  # training share of the combinations in Drexlin et al. 2025

Mask = Bool[np.ndarray, " k"]
Spare = Int64[np.ndarray, " levels"]  # patients that each level can lose
Chosen = Int64[np.ndarray, " m"]
Sparse = Any  # scipy.sparse.csr_array; scipy is imported only where combinations are drawn


def held_by(table: pd.DataFrame, schema: Schema, rule: Rule, patient: Ids, seed: int) -> tuple[Combinations, Mask]:
    """The combinations the rule speaks of, and which of them it holds out."""
    names = rule.over
    if rule.kind in ("sites", "published"):
        names = rule.over[:1] or tuple(a.name for a in over(schema)[1:])
    columns = over(schema, names)
    combinations = Combinations.of(table, columns)
    if not len(combinations):
        raise MediError(f"no row has known levels of {', '.join(combinations.columns)}: nothing to hold out")
    if rule.kind == "sites":
        return combinations, _site_fold(table, schema, combinations, rule)
    if rule.kind == "published":
        return combinations, _published(table, combinations, rule)
    if rule.kind == "named":
        return combinations, _named(combinations, rule.held)
    for name in combinations.columns:
        if combinations.levels[name].nunique() < 2:
            raise MediError(f"only one {name} ({combinations.levels[name].iloc[0]}): nothing to hold out")
    levels = [level_ids(table, attribute) for attribute in columns]
    return combinations, _random(combinations, levels, patient, rule, seed)


def _named(combinations: Combinations, held: Sequence[Combination]) -> Mask:
    found = combinations.tuples()
    if unknown := [combination for combination in held if tuple(combination) not in set(found)]:
        named = " x ".join(unknown[0])
        raise MediError(
            f"{named}: no patch has this combination of {', '.join(combinations.columns)}; nothing to hold out"
        )
    wanted = {tuple(combination) for combination in held}
    return np.array([combination in wanted for combination in found], dtype=bool)


def _published(table: pd.DataFrame, combinations: Combinations, rule: Rule) -> Mask:
    """Per class the combinations in file order, the first 70 % train; a site on both sides is held out.

    Values are taken as written, `not reported` among them, as the authors did.
    """
    pairs = table[["class", *rule.over]].drop_duplicates()
    place = pairs.groupby("class", sort=False).cumcount()
    size = pairs.groupby("class", sort=False)["class"].transform("size")
    late = place >= (PUBLISHED_RATE * size).astype(int)
    sites = set(pairs.loc[late, rule.over[0]])
    return combinations.levels[rule.over[0]].isin(sites).to_numpy(dtype=bool)


def _site_fold(table: pd.DataFrame, schema: Schema, combinations: Combinations, rule: Rule) -> Mask:
    """Largest levels first, each to the fold where the squared class counts grow least (preserved-site folds)."""
    if rule.folds > len(combinations):
        raise MediError(
            f"{rule.folds} folds need as many levels, but {combinations.columns[0]} has {len(combinations)}"
        )
    classes = level_ids(table, schema.classes)
    known = (classes >= 0) & (combinations.index >= 0)
    counts = np.zeros((len(combinations), len(schema.classes.levels)))
    np.add.at(counts, (combinations.index[known], classes[known]), 1)
    counts /= np.maximum(counts.sum(axis=0), 1)  # every class weighs the same
    fold = np.empty(len(combinations), dtype=np.int64)
    load = np.zeros((rule.folds, counts.shape[1]))
    for site in np.argsort(-counts.sum(axis=1), kind="stable"):
        fold[site] = np.argmin(((load + counts[site]) ** 2 - load**2).sum(axis=1))
        load[fold[site]] += counts[site]
    return fold == rule.fold


def _random(combinations: Combinations, levels: Sequence[Ids], patient: Ids, rule: Rule, seed: int) -> Mask:
    """Exactly round(rate x combinations) of them, or an error that says how many can be."""
    wanted = round(rule.rate * len(combinations))
    members, traits = _incidence(combinations.index, len(combinations), patient), _traits(levels, patient)
    spare = _spare(traits, rule.min_patients)
    order = seeds.generator("holdout", seed, "combinations").permutation(_holdable(members, traits, spare))
    chosen = _greedy(order, members, traits, spare, wanted)
    if len(chosen) < wanted:
        chosen = _most(order, members, traits, spare)[:wanted]
    if len(chosen) < wanted:
        remedy = "lower the rate, or group or map the levels (site codes to hospitals) so that they span classes"
        if combinations.columns == ("class",):
            remedy = "no attribute is known here: name columns (--attributes), or hold out patients alone (--rate 0)"
        raise MediError(
            f"{wanted} of the {len(combinations)} combinations of {', '.join(combinations.columns)} cannot be held "
            f"out: only {len(chosen)} were found that can while every level keeps {rule.min_patients} training "
            f"patient(s); {remedy}"
        )
    held = np.zeros(len(combinations), dtype=bool)
    held[chosen] = True
    return held


def _incidence(group: Ids, groups: int, patient: Ids) -> Sparse:
    """Sparse [groups, patients] of 0 and 1: who has a patch there; rows of group -1 are left out."""
    from scipy.sparse import csr_array

    known = group >= 0
    shape = (groups, int(patient.max(initial=-1)) + 1)
    found = csr_array((np.ones(known.sum(), dtype=np.int64), (group[known], patient[known])), shape=shape)
    found.data[:] = 1  # duplicates were summed
    return found


def _traits(levels: Sequence[Ids], patient: Ids) -> Sparse:
    """Sparse [patients, levels of all columns]: the levels that a patient's patches have."""
    from scipy.sparse import vstack

    return vstack([_incidence(ids, int(ids.max(initial=-1)) + 1, patient) for ids in levels], format="csr").T.tocsr()


def _spare(traits: Sparse, min_patients: int) -> Spare:
    """How many patients each level can lose."""
    return np.maximum(traits.sum(axis=0) - min_patients, 0).astype(np.int64)


def _holdable(members: Sparse, traits: Sparse, spare: Spare) -> Ids:
    """The combinations that could be held out were they the only one."""
    lost = (members @ traits).tocoo()
    barred = lost.row[lost.data > spare[lost.col]]
    return np.setdiff1d(np.arange(members.shape[0], dtype=np.int64), barred)


def _greedy(order: Ids, members: Sparse, traits: Sparse, spare: Spare, wanted: int) -> Chosen:
    """Hold out in this order whatever still leaves every level its patients, until enough are held."""
    chosen: list[int] = []
    spare, gone = spare.copy(), np.zeros(members.shape[1], dtype=bool)
    for combination in order:
        if len(chosen) == wanted:
            break
        patients = members.indices[members.indptr[combination] : members.indptr[combination + 1]]
        patients = patients[~gone[patients]]
        touched, lost = np.unique(traits[patients].indices, return_counts=True)
        if (lost <= spare[touched]).all():
            spare[touched] -= lost
            gone[patients] = True
            chosen.append(combination)
    return np.array(chosen, dtype=np.int64)


def _most(order: Ids, members: Sparse, traits: Sparse, spare: Spare) -> Chosen:
    """The largest feasible choice among `order`, by integer programming, in the order given.

    maximise sum_c h_c subject to r_p >= h_c for every patient p of combination c, and, for every level,
    sum of r_p over its patients <= spare; any part of a feasible choice is feasible.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, eye_array, hstack

    if not len(order):
        return order
    concerned = np.unique(members[order].indices)
    pairs, traits = members[order][:, concerned].tocoo(), traits[concerned]
    combinations, patients = pairs.shape
    gone = hstack([csr_array((traits.shape[1], combinations)), traits.T])
    implied = hstack([-eye_array(combinations, format="csr")[pairs.row], eye_array(patients, format="csr")[pairs.col]])
    answer = milp(
        -np.r_[np.ones(combinations), np.zeros(patients)],
        integrality=np.r_[np.ones(combinations), np.zeros(patients)],
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(gone, ub=spare), LinearConstraint(implied, lb=0)],
        options={"mip_rel_gap": 0.5 / combinations, "time_limit": 60.0},
    )
    return order[:0] if answer.x is None else order[answer.x[:combinations] > 0.5]
