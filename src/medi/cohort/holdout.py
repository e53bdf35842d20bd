"""Which patches a model never sees: combinations held out, patients never split, and a certificate to check it (P5).

A patient with one patch in a held-out combination is on the test side with all patches. Where most patients have one
(every slide shows every class) that leaves little: with `Rule.set_aside` patients are shared first, and the held-out
patches of those who train are set aside, for no model to see.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt64

from medi.cohort.certificate import ASIDE, COUNTED, FORMAT_VERSION, OFFICIAL, Certificate, evidence, verify
from medi.cohort.choosing import Chosen, Mask, held_by
from medi.cohort.combinations import Combinations, Ids, joint_ids, level_ids, over, text_ids
from medi.cohort.rule import Combination, Rule
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import SPLITS, Cohort
from medi.core import seeds
from medi.core.claims import LEAST_RESERVED
from medi.core.errors import MediError
from medi.core.files import check_format, read_json, read_table, write_json, write_table
from medi.core.locks import holding
from medi.core.outputs import refuse_other
from medi.core.showing import Shown

LISTED = 12  # held-out combinations that are named when a hold-out is shown
HALF, MOST_RESERVED = 0.5, 0.2  # shares of the patches below, and of the training patches above, which a caution is due


@dataclass(frozen=True)
class Holdout(Shown):
    """`table` holds `sample_id` and `split` for each row, in the order of the cohort; `certificate` proves them.

    >>> import medi
    >>> cohort = medi.phantom(patches=400, seed=0).hold_out(over=["class", "site"], rate=0.2, seed=0)
    >>> cohort.holdout.title
    '6 of 29 combinations of class x site are held out'
    >>> cohort.holdout.verify(cohort.table)  # nothing that does not hold
    []
    """

    table: pd.DataFrame
    certificate: Certificate

    @property
    def split(self) -> pd.Series:
        """The split of every row [n]: one of train, validation, test_seen, test_unseen, reserve, set_aside."""
        return self.table["split"]

    @property
    def held_out(self) -> list[Combination]:
        """The combinations without a training patch: those chosen and those that lost all patients to them."""
        return [tuple(found) for found in self.certificate["held_out"] + self.certificate["emptied"]]

    @property
    def title(self) -> str:
        """How many combinations are held out."""
        of = " x ".join(self.certificate["columns"])
        return f"{len(self.held_out)} of {self.certificate['combinations']} combinations of {of} are held out"

    @property
    def remarks(self) -> tuple[str, ...]:
        """The combinations that are held out, and classes that have no training patch."""
        named = ", ".join(" x ".join(levels) for levels in self.held_out[:LISTED])
        more = ", ..." if len(self.held_out) > LISTED else ""
        untrained = self.certificate.get("untrained_classes", [])
        found = [f"held out: {named}{more}"] if named else []
        return (*found, *([f"classes without training patches: {', '.join(untrained)}"] if untrained else []))

    def cautions(self) -> list[str]:
        """What a small cohort should be told: how little is left for training, and too few patches for a test.

        Of a split that came with the data set: that it is theirs, and what leaks in it.
        """
        if self.certificate["rule"]["kind"] == OFFICIAL:
            from medi.cohort.official import sentences

            return list(sentences(self.certificate))
        rows, patients = self.certificate["rows"], self.certificate["patients"]
        train, total, kept = rows["train"], sum(rows.values()), rows["reserve"]
        slides = self.certificate["slides"]["train"]
        found = []
        if train < HALF * total:
            found.append(
                f"{train:,} of {total:,} patches ({train / total:.0%}) and {patients['train']:,} of "
                f"{sum(patients.values()):,} patients are left for training; hold out fewer combinations, or name them "
                "(--held) with --set-aside, so that patients with held-out patches may train without these"
            )
        if kept < LEAST_RESERVED:
            share, remedy = self.reserve_needed(), "the slides have too few patches for it"
            if slides >= train + kept:
                remedy = (
                    "each patch counts as a slide of its own, and a reserved patch needs others of its slide in "
                    "training; if the table has a column of the slide, name it (--slide; in a study file slide: under "
                    "read:), else copies cannot be told"
                )
            elif share is not None:
                remedy = f"--reserve {share:g} keeps enough"
            found.append(
                f"{kept} training patches are reserved; the test for memorisation needs {LEAST_RESERVED}: {remedy}"
            )
        return found

    def reserve_needed(self) -> float | None:
        """The share of the training patches to reserve so that memorisation can be tested; None where none is enough.

        Of a slide at most the smaller half of its patches is reserved.
        """
        rows, slides = (self.certificate[what] for what in ("rows", "slides"))
        patches = rows["train"] + rows["reserve"]
        share = math.ceil(100 * LEAST_RESERVED / max(patches, 1)) / 100
        is_enough = share <= MOST_RESERVED and patches - slides["train"] >= 2 * LEAST_RESERVED
        return share if is_enough else None

    def to_frame(self) -> pd.DataFrame:
        """A row per split: how many patches (rows), slides and patients it has."""
        counted = {what: self.certificate[what] for what in COUNTED}
        return pd.DataFrame(counted).rename_axis("split").reset_index()

    def verify(self, table: pd.DataFrame) -> list[str]:
        """What in a table with the column `split` does not agree with the certificate, a line each; [] is the proof.

        table: of the cohort that was held out; its columns of labels, sample_id, patient and slide are compared.
        """
        return verify(table, self.certificate)

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with its `split` column, matched by sample_id."""
        split = table["sample_id"].map(self.table.set_index("sample_id")["split"])
        if split.isna().any():
            lost = table["sample_id"][split.isna()].iloc[0]
            raise MediError(f"sample {lost!r} is not in this hold-out; design it again for this cohort")
        return table.assign(split=split)

    def apply_to(self, cohort: Cohort) -> Cohort:
        """The cohort with its `split` column and the certificate; MediError for a patch that is not in this hold-out.

        >>> import medi
        >>> tissue = medi.phantom(patches=400, seed=0)
        >>> found = tissue.hold_out(rate=0.2, seed=0).holdout
        >>> found.apply_to(tissue).holdout.title
        '6 of 29 combinations of class x site are held out'
        """
        return replace(cohort, table=self.apply(cohort.table), info={**cohort.info, "certificate": self.certificate})

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write split.parquet and, last, certificate.json; refused is a folder with another certificate."""
        folder = Path(folder)
        if (folder / "certificate.json").exists():
            refuse_other(folder, "hold-out", read_json(folder / "certificate.json"), self.certificate)
        write_table(folder / "split.parquet", self.table)
        write_json(folder / "certificate.json", self.certificate)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Holdout":
        """The hold-out that `save` wrote to a folder, or that of the cohort in a folder, such as a packed one.

        MediError where neither has one.
        """
        folder = Path(folder)
        if not (folder / "certificate.json").exists():
            return _of_cohort(folder)
        certificate = read_json(folder / "certificate.json")
        check_format(certificate.get("format_version"), FORMAT_VERSION, folder / "certificate.json")
        return cls(read_table(folder / "split.parquet"), certificate)


def _of_cohort(folder: Path) -> Holdout:
    """The hold-out that the cohort in a folder has."""
    cohort = Cohort.load(folder) if (folder / "cohort.json").exists() else None
    if cohort is None or "certificate" not in cohort.info:
        raise MediError(f"{folder}: no hold-out here; `medi holdout`, or Cohort.hold_out and save, write one")
    return cohort.holdout


def has_split(table: pd.DataFrame) -> bool:
    """Whether some patch has a place in a split.

    >>> has_split(pd.DataFrame({"split": ["", "train"]})), has_split(pd.DataFrame({"split": [""]}))
    (True, False)
    """
    return "split" in table and bool((table["split"] != "").any())


def design(table: pd.DataFrame, schema: Schema, rule: Rule | None = None, seed: int = 0) -> Holdout:
    """Assign every row to a split by the rule; the same for any order of the rows.

    Rows whose level is not known in a held-out column belong to no combination and stay trainable.
    Raises MediError where the rule cannot be met, saying what can.
    """
    rule = rule or Rule()
    patient = _patients(table)
    combinations, held = held_by(table, schema, rule, patient, seed)
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
    named = combinations.tuples()
    labels = ["sample_id", "patient", "slide", *(a.name for a in schema.conditions)]
    certificate: Certificate = {
        "format_version": FORMAT_VERSION,
        "rule": asdict(rule),
        "seed": seed,
        "columns": list(combinations.columns),
        "missing": missing,
        "combinations": len(combinations),
        "held_out": [list(named[i]) for i in np.flatnonzero(held)],
        "emptied": [list(named[i]) for i in np.flatnonzero(emptied)],
        "untrained_classes": sorted(set(assigned["class"]) - set(assigned["class"][assigned["split"] == "train"])),
        **evidence(assigned, labels),  # type: ignore[typeddict-item]  # leaks are of splits that come with the data
    }
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
