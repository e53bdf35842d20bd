"""Which patches a model never sees: combinations held out, patients never split, and a certificate to check it (P5).

A patient with one patch in a held-out combination is on the test side with all patches. Where most patients have one
(every slide shows every class) that leaves little: with `Rule.set_aside` patients are shared first, and the held-out
patches of those who train are set aside, for no model to see.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64, UInt64

from medi.cohort.combinations import Cells, Ids, joint_ids, level_ids, over, text_ids
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import SPLITS
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import check_format, read_json, read_table, write_json, write_table

FORMAT_VERSION = 1
SIDES = {"train": 0, "reserve": 0, "validation": 1, "test_seen": 2, "test_unseen": 2}
ASIDE = "set_aside"  # of patients who train or validate; an oracle may use them, nothing else
PUBLISHED_RATE = 0.7  # training share of the combinations in Drexlin et al. 2025

Mask = Bool[np.ndarray, " k"]
Spare = Int64[np.ndarray, " levels"]  # patients that each level can lose
Chosen = Int64[np.ndarray, " m"]
Sparse = Any  # scipy.sparse.csr_array; scipy is imported only where combinations are drawn
Combination = tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """What is held out, and how the remaining patients are shared.

    kind `random`: a share `rate` of the non-empty combinations of `over`, such that every level of these columns
    keeps `min_patients` patients in training (all of them where it has fewer);
    `named`: the combinations in `held`; with one column in `over` these are whole levels (an unseen hospital);
    `sites`: one of `folds` parts of the levels of a column, the classes spread evenly over the parts;
    `published`: the split of Drexlin et al. 2025 over (site, gender, race).
    `test_seen` and `validation` are shares of the patients not held out, `reserve` a share of the training patches.
    `set_aside`: no patient is held out for a patch in a held-out combination; of the patients in `test_seen` (now a
    share of all) such patches are test_unseen, of the others they are set aside.
    """

    kind: Literal["random", "named", "sites", "published"] = "random"
    over: tuple[str, ...] = ()
    rate: float = 0.30
    min_patients: int = 1
    held: tuple[Combination, ...] = ()
    folds: int = 5
    fold: int = 0
    test_seen: float = 0.15
    validation: float = 0.10
    reserve: float = 0.02
    set_aside: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise MediError(f"the rate of held-out combinations must lie in [0, 1), not {self.rate}")
        if min(self.test_seen, self.validation, self.reserve) < 0 or self.test_seen + self.validation >= 1:
            raise MediError("test_seen, validation and reserve are shares >= 0, the first two together below 1")
        if self.min_patients < 1:
            raise MediError(f"every level must keep at least one patient in training, not {self.min_patients}")
        if self.kind == "named" and not self.held:
            raise MediError("a named hold-out needs the combinations or levels to hold out")
        if self.set_aside and (self.kind != "named" or not self.test_seen):
            raise MediError("patches are set aside for named combinations only, and a share of the patients must test")
        if self.kind == "sites" and not 0 <= self.fold < self.folds:
            raise MediError(f"fold {self.fold} is none of the {self.folds} folds 0 to {self.folds - 1}")

    @classmethod
    def levels(cls, column: str, levels: Sequence[str]) -> "Rule":
        """Hold out whole levels of one column, such as a hospital."""
        return cls("named", (column,), held=tuple((level,) for level in levels))

    @classmethod
    def published(cls, site: str = "site", gender: str = "gender", race: str = "race") -> "Rule":
        """The paper's split: two sides only, nothing set aside for validation or copy tests."""
        return cls("published", (site, gender, race), test_seen=0.0, validation=0.0, reserve=0.0)


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

    def save(self, folder: Path) -> Path:
        """Write split.parquet and, last, certificate.json."""
        write_table(folder / "split.parquet", self.table)
        write_json(folder / "certificate.json", self.certificate)
        return folder

    @classmethod
    def load(cls, folder: Path) -> "Holdout":
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
    cells, held = _held(table, schema, rule, patient, seed)
    nobody = np.zeros_like(held)
    split, emptied = _sides(cells, nobody if rule.set_aside else held, patient)
    if not (split == SPLITS.index("train")).any():
        raise MediError("every patient has a patch in a held-out combination: nothing is left to train on")
    columns = over(schema, tuple(dict.fromkeys(("class", *cells.columns))))
    strata = Cells.of(table, columns).index
    _share(table, columns, strata, rule, patient, seed, split)
    if rule.set_aside:
        _set_aside(cells, held, split)
    _reserve(table, strata, rule, seed, split)
    assigned = table.assign(split=np.asarray(SPLITS, dtype=object)[split])
    missing = {name: list(schema.attribute(name).missing) for name in cells.columns}
    content = {"rule": asdict(rule), "seed": seed, "columns": list(cells.columns), "missing": missing}
    combinations = cells.tuples()
    chosen = {
        "combinations": len(cells),
        "held_out": [list(combinations[i]) for i in np.flatnonzero(held)],
        "emptied": [list(combinations[i]) for i in np.flatnonzero(emptied)],
        "untrained_classes": sorted(set(assigned["class"]) - set(assigned["class"][assigned["split"] == "train"])),
    }
    labels = ["sample_id", "patient", "slide", *(a.name for a in schema.conditions)]
    certificate = {"format_version": FORMAT_VERSION} | content | chosen | _evidence(assigned, labels)
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


def _held(table: pd.DataFrame, schema: Schema, rule: Rule, patient: Ids, seed: int) -> tuple[Cells, Mask]:
    """The combinations the rule speaks of, and which of them it holds out."""
    names = rule.over
    if rule.kind in ("sites", "published"):
        names = rule.over[:1] or tuple(a.name for a in over(schema)[1:])
    columns = over(schema, names)
    cells = Cells.of(table, columns)
    if not len(cells):
        raise MediError(f"no row has known levels of {', '.join(cells.columns)}: nothing to hold out")
    if rule.kind == "sites":
        return cells, _site_fold(table, schema, cells, rule)
    if rule.kind == "published":
        return cells, _published(table, cells, rule)
    if rule.kind == "named":
        return cells, _named(cells, rule.held)
    levels = [level_ids(table, attribute) for attribute in columns]
    return cells, _random(cells, levels, patient, rule, seed)


def _named(cells: Cells, held: Sequence[Combination]) -> Mask:
    found = cells.tuples()
    if unknown := [combination for combination in held if tuple(combination) not in set(found)]:
        named = " x ".join(unknown[0])
        raise MediError(f"{named}: no patch has this combination of {', '.join(cells.columns)}; nothing to hold out")
    wanted = {tuple(combination) for combination in held}
    return np.array([combination in wanted for combination in found], dtype=bool)


def _published(table: pd.DataFrame, cells: Cells, rule: Rule) -> Mask:
    """Per class the combinations in file order, the first 70 % train; a site on both sides is held out.

    Values are taken as written, `not reported` among them, as the authors did.
    """
    combinations = table[["class", *rule.over]].drop_duplicates()
    place = combinations.groupby("class", sort=False).cumcount()
    size = combinations.groupby("class", sort=False)["class"].transform("size")
    late = place >= (PUBLISHED_RATE * size).astype(int)
    sites = set(combinations.loc[late, rule.over[0]])
    return cells.levels[rule.over[0]].isin(sites).to_numpy(dtype=bool)


def _site_fold(table: pd.DataFrame, schema: Schema, cells: Cells, rule: Rule) -> Mask:
    """Largest levels first, each to the fold where the squared class counts grow least (preserved-site folds)."""
    if rule.folds > len(cells):
        raise MediError(f"{rule.folds} folds need as many levels, but {cells.columns[0]} has {len(cells)}")
    classes = level_ids(table, schema.classes)
    known = (classes >= 0) & (cells.index >= 0)
    counts = np.zeros((len(cells), len(schema.classes.levels)))
    np.add.at(counts, (cells.index[known], classes[known]), 1)
    counts /= np.maximum(counts.sum(axis=0), 1)  # every class weighs the same
    fold = np.empty(len(cells), dtype=np.int64)
    load = np.zeros((rule.folds, counts.shape[1]))
    for site in np.argsort(-counts.sum(axis=1), kind="stable"):
        fold[site] = np.argmin(((load + counts[site]) ** 2 - load**2).sum(axis=1))
        load[fold[site]] += counts[site]
    return fold == rule.fold


def _random(cells: Cells, levels: Sequence[Ids], patient: Ids, rule: Rule, seed: int) -> Mask:
    """Exactly round(rate x combinations) of them, or an error that says how many can be."""
    wanted = round(rule.rate * len(cells))
    members, traits = _incidence(cells.index, len(cells), patient), _traits(levels, patient)
    spare = _spare(traits, rule.min_patients)
    order = seeds.generator("holdout", seed, "combinations").permutation(_holdable(members, traits, spare))
    chosen = _greedy(order, members, traits, spare, wanted)
    if len(chosen) < wanted:
        chosen = _most(order, members, traits, spare)[:wanted]
    if len(chosen) < wanted:
        raise MediError(
            f"{wanted} of the {len(cells)} combinations of {', '.join(cells.columns)} cannot be held out: only "
            f"{len(chosen)} were found that can while every level keeps {rule.min_patients} training patient(s); "
            "lower the rate, or group or map the levels (site codes to hospitals) so that they span classes"
        )
    held = np.zeros(len(cells), dtype=bool)
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
    for cell in order:
        if len(chosen) == wanted:
            break
        patients = members.indices[members.indptr[cell] : members.indptr[cell + 1]]
        patients = patients[~gone[patients]]
        touched, lost = np.unique(traits[patients].indices, return_counts=True)
        if (lost <= spare[touched]).all():
            spare[touched] -= lost
            gone[patients] = True
            chosen.append(cell)
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
    cells, patients = pairs.shape
    gone = hstack([csr_array((traits.shape[1], cells)), traits.T])
    implied = hstack([-eye_array(cells, format="csr")[pairs.row], eye_array(patients, format="csr")[pairs.col]])
    answer = milp(
        -np.r_[np.ones(cells), np.zeros(patients)],
        integrality=np.r_[np.ones(cells), np.zeros(patients)],
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(gone, ub=spare), LinearConstraint(implied, lb=0)],
        options={"mip_rel_gap": 0.5 / cells, "time_limit": 60.0},
    )
    return order[:0] if answer.x is None else order[answer.x[:cells] > 0.5]


# --- who goes where ---------------------------------------------------------------------------------------------------


def _sides(cells: Cells, held: Mask, patient: Ids) -> tuple[Ids, Mask]:
    """Codes of SPLITS [n]: train or test; and the combinations that lost their patients to the chosen ones [k]."""
    known = cells.index >= 0
    tested = np.zeros(patient.max(initial=-1) + 1, dtype=bool)
    tested[patient[known & held[cells.index]]] = True
    tested_row = tested[patient]
    trained = np.bincount(cells.index[known & ~tested_row], minlength=len(cells)) > 0
    split = np.full(len(patient), SPLITS.index("train"), dtype=np.int64)
    split[tested_row] = SPLITS.index("test_seen")
    split[tested_row & known & ~trained[cells.index]] = SPLITS.index("test_unseen")
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
    free = order[~np.isin(order, list(needed))]
    for name, share in (("test_seen", rule.test_seen), ("validation", rule.validation)):
        taken = _spread(free, round(share * len(order)))
        split[np.isin(patient, taken)] = SPLITS.index(name)
        free = free[~np.isin(free, taken)]


def _set_aside(cells: Cells, held: Mask, split: Ids) -> None:
    """Take the held-out patches away from those who train or validate, and make those of the others unseen (in place).

    MediError where that leaves nothing to train on or to test.
    """
    inside = (cells.index >= 0) & held[cells.index]
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


def _evidence(table: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    """Counts and hashes of the splits, and a hash of the labels of every row."""
    rows = table[["sample_id", "slide", "patient"]]
    groups = {name: rows[table["split"] == name] for name in SPLITS}
    return {
        "rows": {name: len(found) for name, found in groups.items()},
        "slides": {name: int(found["slide"].nunique()) for name, found in groups.items()},
        "patients": {name: int(found["patient"].nunique()) for name, found in groups.items()},
        "ids": {name: _hash_ids(found["sample_id"]) for name, found in groups.items()},
        "labels": {"columns": labels, "hash": _hash_rows(table[labels])},
    }


def _hash_ids(ids: pd.Series) -> str:
    """sha256 of the sorted ids, one a line."""
    return hashlib.sha256("\n".join(sorted(ids.astype("str").to_numpy(dtype=object))).encode()).hexdigest()


def _hash_rows(table: pd.DataFrame) -> str:
    """sha256 of the sorted 64-bit hashes of the rows, values as text."""
    rows = np.zeros(len(table), dtype=np.uint64)
    for name in table.columns:
        codes, found = pd.factorize(table[name], use_na_sentinel=False)
        hashes = pd.util.hash_array(pd.Series(found).astype("str").to_numpy(dtype=object), categorize=False)
        rows = (rows ^ hashes[codes]) * np.uint64(0x9E3779B97F4A7C15)  # the factor keeps the order of the columns
    return hashlib.sha256(np.sort(rows).tobytes()).hexdigest()


def verify(table: pd.DataFrame, certificate: dict[str, Any]) -> list[str]:
    """Problems found when the table and its `split` column are held against the certificate; empty is proven."""
    check_format(certificate.get("format_version"), FORMAT_VERSION, Path("certificate.json"))
    labels = certificate["labels"]["columns"]
    if lacking := {"split", *labels, *certificate["columns"]} - set(table.columns):
        return [f"the table lacks the columns {', '.join(sorted(lacking))}"]
    if strange := sorted(set(table["split"]) - set(SPLITS)):
        return [f"split {strange[0]!r} is none of {', '.join(SPLITS)}"]
    problems = _torn(table, "patient") + _torn(table, "slide") + _leaks(table, certificate)
    return problems + _thin(table, certificate) + _changes(certificate, _evidence(table, labels))


def _torn(table: pd.DataFrame, column: str) -> list[str]:
    """Patients or slides on two sides."""
    ids, names = pd.factorize(table[column], use_na_sentinel=False)
    side = table["split"].map(SIDES | {ASIDE: -1}).to_numpy(dtype=np.int64)
    free = side < 0
    owner = np.full(len(names), -1, dtype=np.int64)
    owner[ids[~free]] = side[~free]
    torn = pd.unique(ids[np.where(free, owner[ids] == SIDES["test_seen"], owner[ids] != side)])
    return [f"{len(torn)} {column}(s) on two sides, first {names[torn[0]]!r}"] if len(torn) else []


def _leaks(table: pd.DataFrame, certificate: dict[str, Any]) -> list[str]:
    """Rows of held-out combinations that are not test_unseen, and the reverse."""
    columns = certificate["columns"]
    held = {tuple(combination) for combination in certificate["held_out"] + certificate["emptied"]}
    codes = [pd.factorize(table[name], use_na_sentinel=False)[0].astype(np.int64) for name in columns]
    index, first = joint_ids(codes)
    found = table[columns].iloc[first].astype("str").itertuples(index=False, name=None)
    inside = np.array([combination in held for combination in found], dtype=bool)[index]
    out = ["test_unseen", *([ASIDE] if certificate["rule"].get("set_aside") else [])]
    unseen = table["split"].isin(out).to_numpy(dtype=bool)
    problems = []
    for wrong, words in ((inside & ~unseen, "of held-out combinations outside"), (unseen & ~inside, "seen in")):
        if wrong.any():
            first_sample = table["sample_id"].iloc[int(np.argmax(wrong))]
            problems.append(f"{int(wrong.sum())} row(s) {words} {' and '.join(out)}, first {first_sample!r}")
    return problems


def _thin(table: pd.DataFrame, certificate: dict[str, Any]) -> list[str]:
    """Levels with fewer training patients than a random rule promises."""
    rule = certificate["rule"]
    problems = []
    for name in certificate["columns"] if rule["kind"] == "random" else []:
        known = table[~table[name].isin(certificate["missing"][name])]
        every = known.groupby(name)["patient"].nunique()
        trained = known[known["split"] == "train"].groupby(name)["patient"].nunique().reindex(every.index, fill_value=0)
        short = trained < every.clip(upper=rule["min_patients"])
        problems += [
            f"{name} {level!r} keeps only {trained[level]} training patient(s)" for level in every.index[short]
        ]
    return problems


def _changes(certificate: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Counts and hashes that differ from the certificate; a split that an older one does not know must be empty."""
    problems = []
    empty = {"rows": 0, "slides": 0, "patients": 0, "ids": _hash_ids(pd.Series([], dtype="str"))}
    certificate = certificate | {what: dict.fromkeys(SPLITS, none) | certificate[what] for what, none in empty.items()}
    for name in SPLITS:
        for what in ("rows", "slides", "patients"):
            if found[what][name] != certificate[what][name]:
                problems.append(
                    f"{name} has {found[what][name]} {what}, the certificate says {certificate[what][name]}"
                )
        if found["ids"][name] != certificate["ids"][name]:
            problems.append(f"the sample ids in {name} are not those of the certificate")
    if found["labels"] != certificate["labels"]:
        problems.append(f"labels have changed (columns {', '.join(certificate['labels']['columns'])})")
    return problems
