"""The certificate of a hold-out: counts and hashes of its splits, so that anyone can check them again (P5)."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import pandas as pd

from medi.cohort.combinations import joint_ids
from medi.cohort.table import SPLITS
from medi.core.files import check_format

FORMAT_VERSION = 1
SIDES = {"train": 0, "reserve": 0, "validation": 1, "test_seen": 2, "test_unseen": 2}
OFFICIAL = "official"  # kind of the rule of a split that came with the data set
ASIDE = "set_aside"  # of patients who train or validate; an oracle may use them, nothing else


Counted = Literal["rows", "slides", "patients"]
COUNTED: tuple[Counted, ...] = ("rows", "slides", "patients")


class Labels(TypedDict):
    """The columns that a hash is of."""

    columns: list[str]
    hash: str


class Evidence(TypedDict):
    """Counts and hashes of sample ids by split, and a hash of the labels of every row."""

    rows: dict[str, int]
    slides: dict[str, int]
    patients: dict[str, int]
    ids: dict[str, str]
    labels: Labels


class Leak(TypedDict):
    """Patients or slides (unit) that have patches on several sides."""

    unit: str
    sides: list[str]
    names: list[str]


class Certificate(Evidence):
    """certificate.json: the rule, the combinations that it chose, and the evidence. missing: spellings per column.

    leaks: of a split that came with the data set; a hold-out that is made here has none.
    """

    format_version: int
    rule: Mapping[str, Any]
    seed: int
    columns: list[str]
    missing: dict[str, list[str]]
    combinations: int
    held_out: list[list[str]]
    emptied: list[list[str]]
    untrained_classes: NotRequired[list[str]]
    leaks: NotRequired[list[Leak]]


def evidence(table: pd.DataFrame, labels: list[str]) -> Evidence:
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


def trained_under(certificate: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the images of a model say of its hold-out: which rows it was of, and which of them trained, as hashes."""
    if not {"labels", "ids"} <= set(certificate):
        return {}
    return {"labels": certificate["labels"], "train": certificate["ids"]["train"]}


def may_share_tests(trained: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether what tests under one hold-out (`own`) may have trained a model of another, by `trained_under` of both.

    Not where the labels say that they are of other rows.
    """
    if not trained or not own or trained["train"] == own["train"]:
        return False
    theirs, ours = trained["labels"], own["labels"]
    return theirs["columns"] != ours["columns"] or theirs["hash"] == ours["hash"]


def verify(table: pd.DataFrame, certificate: Certificate) -> list[str]:
    """What in the table and its `split` column does not agree with the certificate; an empty list is the proof."""
    check_format(certificate.get("format_version"), FORMAT_VERSION, Path("certificate.json"))
    labels = certificate["labels"]["columns"]
    if lacking := {"split", *labels, *certificate["columns"]} - set(table.columns):
        return [f"the table lacks the columns {', '.join(sorted(lacking))}"]
    if strange := sorted(set(table["split"]) - set(SPLITS)):
        return [f"split {strange[0]!r} is none of {', '.join(SPLITS)}"]
    is_official = certificate["rule"]["kind"] == OFFICIAL  # what leaks in it stands in the certificate
    torn = [] if is_official else _torn(table, "patient") + _torn(table, "slide")
    problems = torn + _leaks(table, certificate)
    return problems + _thin(table, certificate) + _changes(certificate, evidence(table, labels))


def _torn(table: pd.DataFrame, column: str) -> list[str]:
    """Patients or slides on two sides."""
    ids, names = pd.factorize(table[column], use_na_sentinel=False)
    side = table["split"].map(SIDES | {ASIDE: -1}).to_numpy(dtype=np.int64)
    aside = side < 0
    owner = np.full(len(names), -1, dtype=np.int64)
    owner[ids[~aside]] = side[~aside]
    torn = pd.unique(ids[np.where(aside, owner[ids] == SIDES["test_seen"], owner[ids] != side)])
    return [f"{len(torn)} {column}(s) on two sides, first {names[torn[0]]!r}"] if len(torn) else []


def _leaks(table: pd.DataFrame, certificate: Certificate) -> list[str]:
    """Rows of held-out combinations that are not test_unseen, and the reverse."""
    columns = certificate["columns"]
    held = {tuple(combination) for combination in certificate["held_out"] + certificate["emptied"]}
    codes = [pd.factorize(table[name], use_na_sentinel=False)[0].astype(np.int64) for name in columns]
    index, first = joint_ids(codes)
    found = table[columns].iloc[first].astype("str").itertuples(index=False, name=None)
    inside = np.array([combination in held for combination in found], dtype=bool)[index]
    out = ["test_unseen", *([ASIDE] if certificate["rule"].get("set_aside") else [])]
    unseen = table["split"].isin(out).to_numpy(dtype=bool)
    others = ["validation", ASIDE] if certificate["rule"]["kind"] == OFFICIAL else []
    untrained = unseen | table["split"].isin(others).to_numpy(dtype=bool)
    problems = []
    for wrong, words in ((inside & ~untrained, "of held-out combinations outside"), (unseen & ~inside, "seen in")):
        if wrong.any():
            first_sample = table["sample_id"].iloc[int(np.argmax(wrong))]
            problems.append(f"{int(wrong.sum())} row(s) {words} {' and '.join(out)}, first {first_sample!r}")
    return problems


def _thin(table: pd.DataFrame, certificate: Certificate) -> list[str]:
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


def _changes(certificate: Certificate, found: Evidence) -> list[str]:
    """Counts and hashes that differ from the certificate; a split that an older one does not know must be empty."""
    problems = []
    nothing = _hash_ids(pd.Series([], dtype="str"))
    for name in SPLITS:
        for what in COUNTED:
            if found[what][name] != (said := certificate[what].get(name, 0)):
                problems.append(f"{name} has {found[what][name]} {what}, the certificate says {said}")
        if found["ids"][name] != certificate["ids"].get(name, nothing):
            problems.append(f"the sample ids in {name} are not those of the certificate")
    if found["labels"] != certificate["labels"]:
        problems.append(f"labels have changed (columns {', '.join(certificate['labels']['columns'])})")
    return problems
