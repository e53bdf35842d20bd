"""Which patches a model never sees: combinations held out, patients never split, and a certificate to check it (P5).

A patient with one patch in a held-out combination is on the test side with all patches. Where most patients have one
(every slide shows every class) that leaves little: with `Rule.set_aside` patients are shared first, and the held-out
patches of those who train are set aside, for no model to see.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64, UInt64

from medi.cohort.certificate import ASIDE, FORMAT_VERSION, evidence
from medi.cohort.combinations import Combinations, Ids, joint_ids, level_ids, over, text_ids
from medi.cohort.rule import Combination, Rule
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import SPLITS
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import check_format, read_json, read_table, write_json, write_table

PUBLISHED_RATE = 0.7  # training share of the combinations in Drexlin et al. 2025

Mask = Bool[np.ndarray, " k"]
Spare = Int64[np.ndarray, " levels"]  # patients that each level can lose
Chosen = Int64[np.ndarray, " m"]
Sparse = Any  # scipy.sparse.csr_array; scipy is imported only where combinations are drawn


@dataclass(frozen=True)
class Holdout:
    """`table` holds `sample_id` and `split` for each row, in the order of the cohort; `certificate` proves them."""

    table: pd.DataFrame
    certificate: dict[str, Any]

    @property
    def split(self) -> pd.Series:
        return self.table["split"]

    @property
    def held_out(self) -> list[Combination]:
        """The combinations without a training patch: those chosen and those that lost all patients to them."""
        return [tuple(found) for found in self.certificate["held_out"] + self.certificate["emptied"]]

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with its `split` column, matched by sample_id."""
        split = table["sample_id"].map(self.table.set_index("sample_id")["split"])
        if split.isna().any():
            lost = table["sample_id"][split.isna()].iloc[0]
            raise MediError(f"sample {lost!r} is not in this hold-out; design it again for this cohort")
        return table.assign(split=split)

    def save(self, folder: str | Path) -> Path:
        """Write split.parquet and, last, certificate.json."""
        folder = Path(folder)
        write_table(folder / "split.parquet", self.table)
        write_json(folder / "certificate.json", self.certificate)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Holdout":
        """The hold-out that `save` wrote to a folder."""
        folder = Path(folder)
        certificate = read_json(folder / "certificate.json")
        check_format(certificate.get("format_version"), FORMAT_VERSION, folder / "certificate.json")
        return cls(read_table(folder / "split.parquet"), certificate)


def design(table: pd.DataFrame, schema: Schema, rule: Rule | None = None, seed: int = 0) -> Holdout:
    """Assign every row to a split by the rule; the same for any order of the rows.

    Rows whose level is not known in a held-out column belong to no combination and stay trainable.
    Raises MediError where the rule cannot be met, saying what can.
    """
    rule = rule or Rule()
    patient = _patients(table)
    combinations, held = _held(table, schema, rule, patient, seed)
    nobody = np.zeros_like(held)
    split, emptied = _sides(combinations, nobody if rule.set_aside else held, patient)
    if not (split == SPLITS.index("train")).any():
        raise MediError("every patient has a patch in a held-out combination: nothing is left to train on")
    columns = over(schema, tuple(dict.fromkeys(("class", *combinations.columns))))
    strata = Combinations.of(table, columns).index
    _share(table, columns, strata, rule, patient, seed, split)
    if rule.set_aside:
        _set_aside(combinations, held, split)
    _reserve(table, strata, rule, seed, split)
    assigned = table.assign(split=np.asarray(SPLITS, dtype=object)[split])
    missing = {name: list(schema.attribute(name).missing) for name in combinations.columns}
    content = {"rule": asdict(rule), "seed": seed, "columns": list(combinations.columns), "missing": missing}
    named = combinations.tuples()
    chosen = {
        "combinations": len(combinations),
        "held_out": [list(named[i]) for i in np.flatnonzero(held)],
        "emptied": [list(named[i]) for i in np.flatnonzero(emptied)],
        "untrained_classes": sorted(set(assigned["class"]) - set(assigned["class"][assigned["split"] == "train"])),
    }
    labels = ["sample_id", "patient", "slide", *(a.name for a in schema.conditions)]
    certificate = {"format_version": FORMAT_VERSION} | content | chosen | evidence(assigned, labels)
    return Holdout(assigned[["sample_id", "split"]].astype("str").reset_index(drop=True), certificate)


def _patients(table: pd.DataFrame) -> Ids:
    """Patient ids [n] after the checks that keep patients and slides whole."""
    if lacking := {"sample_id", "class", "patient", "slide"} - set(table.columns):
        raise MediError(f"a hold-out needs the columns {', '.join(sorted(lacking))}")
    if not table["sample_id"].is_unique:
        twice = table["sample_id"][table["sample_id"].duplicated()].iloc[0]
        raise MediError(f"sample_id {twice!r} occurs twice; samples need names of their own")
    patient, names = text_ids(table, "patient")
    slide, slides = text_ids(table, "slide")
    owner = np.full(len(slides), -1, dtype=np.int64)
    owner[slide] = patient
    if (torn := owner[slide] != patient).any():
        row = int(np.argmax(torn))
        both = f"{names[patient[row]]!r} and {names[owner[slide[row]]]!r}"
        raise MediError(f"slide {slides[slide[row]]!r} belongs to the patients {both}; make slide names unique")
    return patient


# --- what is held out -------------------------------------------------------------------------------------------------


def _held(table: pd.DataFrame, schema: Schema, rule: Rule, patient: Ids, seed: int) -> tuple[Combinations, Mask]:
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
        raise MediError(
            f"{wanted} of the {len(combinations)} combinations of {', '.join(combinations.columns)} cannot be held "
            f"out: only {len(chosen)} were found that can while every level keeps {rule.min_patients} training "
            "patient(s); lower the rate, or group or map the levels (site codes to hospitals) so that they span classes"
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


# --- who goes where ---------------------------------------------------------------------------------------------------


def _sides(combinations: Combinations, held: Mask, patient: Ids) -> tuple[Ids, Mask]:
    """Codes of SPLITS [n]: train or test; and the combinations that lost their patients to the chosen ones [k]."""
    known = combinations.index >= 0
    tested = np.zeros(patient.max(initial=-1) + 1, dtype=bool)
    tested[patient[known & held[combinations.index]]] = True
    tested_row = tested[patient]
    trained = np.bincount(combinations.index[known & ~tested_row], minlength=len(combinations)) > 0
    split = np.full(len(patient), SPLITS.index("train"), dtype=np.int64)
    split[tested_row] = SPLITS.index("test_seen")
    split[tested_row & known & ~trained[combinations.index]] = SPLITS.index("test_unseen")
    return split, ~trained & ~held


def _keyed_order(names: pd.Series, *key: seeds.Key) -> UInt64[np.ndarray, " n"]:
    """A random number per name that depends on the key and the name alone."""
    hash_key = seeds.digest("holdout", *key).hex()[:16]
    return pd.util.hash_array(names.to_numpy(dtype=object), hash_key=hash_key, categorize=False)


def _share(
    table: pd.DataFrame,
    columns: Sequence[Attribute],
    strata: Ids,
    rule: Rule,
    patient: Ids,
    seed: int,
    split: Ids,
) -> None:
    """Move training patients to test_seen and validation, evenly over the combinations, emptying none (in place)."""
    train = np.flatnonzero(split == SPLITS.index("train"))
    levels = {attribute.name: level_ids(table, attribute)[train] for attribute in columns}
    who = pd.DataFrame({"patient": patient[train], "stratum": strata[train]} | levels).drop_duplicates()
    found, first = np.unique(patient[train], return_index=True)
    rank = pd.Series(_keyed_order(table["patient"].iloc[train[first]], seed, "patients"), index=found)
    stratum = who.groupby("patient")["stratum"].min()
    order = pd.DataFrame({"stratum": stratum, "rank": rank}).sort_values(["stratum", "rank"]).index.to_numpy()
    needed = _first_patients(who, "stratum", rank, 1)
    needed = needed.union(*(_first_patients(who, name, rank, rule.min_patients) for name in levels))
    others = order[~np.isin(order, list(needed))]
    for name, share in (("test_seen", rule.test_seen), ("validation", rule.validation)):
        taken = _spread(others, round(share * len(order)))
        split[np.isin(patient, taken)] = SPLITS.index(name)
        others = others[~np.isin(others, taken)]


def _set_aside(combinations: Combinations, held: Mask, split: Ids) -> None:
    """Take the held-out patches away from those who train or validate, and make those of the others unseen (in place).

    MediError where that leaves nothing to train on or to test.
    """
    inside = (combinations.index >= 0) & held[combinations.index]
    tested = split == SPLITS.index("test_seen")
    split[inside & tested] = SPLITS.index("test_unseen")
    split[inside & ~tested] = SPLITS.index(ASIDE)
    if not (inside & tested).any():
        raise MediError("no patient who tests has a held-out patch: raise the share test_seen")
    if not (split == SPLITS.index("train")).any():
        raise MediError("every training patch is of a held-out combination: nothing is left to train on")


def _first_patients(who: pd.DataFrame, column: str, rank: pd.Series, number: int) -> set[int]:
    """The first patients by rank of every level or combination: those that training keeps."""
    pairs = who.loc[who[column] >= 0, [column, "patient"]].drop_duplicates()
    ordered = pairs.assign(rank=rank.loc[pairs["patient"]].to_numpy()).sort_values([column, "rank"])
    return set(ordered["patient"][ordered.groupby(column).cumcount() < number])


def _spread(candidates: Ids, number: int) -> Chosen:
    """`number` of the candidates at even distances (all where there are fewer)."""
    number = min(number, len(candidates))
    places = (np.arange(number) + 0.5) * (len(candidates) / max(number, 1))
    return candidates[places.astype(np.int64)]


def _reserve(table: pd.DataFrame, strata: Ids, rule: Rule, seed: int, split: Ids) -> None:
    """Set aside training patches for copy tests; a slide keeps most of its patches of every combination (in place)."""
    train = np.flatnonzero(split == SPLITS.index("train"))
    group = joint_ids([text_ids(table, "slide")[0][train], strata[train] + 1])[0]
    rank = _keyed_order(table["sample_id"].iloc[train], seed, "reserve")
    order = np.lexsort((rank, group))
    place = pd.Series(group[order]).groupby(group[order]).cumcount().to_numpy()
    size = pd.Series(group[order]).groupby(group[order]).transform("size").to_numpy()
    spare = train[order][place < (size - 1) // 2]
    split[_spread(spare, round(rule.reserve * len(train)))] = SPLITS.index("reserve")


# --- the certificate --------------------------------------------------------------------------------------------------
