"""A split that came with the data is taken as it is, and its certificate says what leaks in it (P5)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medi as facade
from command_line import Medi, fine, refused
from medi.cohort.holdout import Holdout
from medi.cohort.table import Cohort
from medi.core.errors import MediError

TRAIN, TEST = "train", "test"


def table(path: Path, **columns: list[str]) -> Path:
    """Two classes at two sites, two patients of two slides each; B at Oslo is tested alone."""
    rows = [(f"{c}{s}{p}{i}", f"{c}{s}{p}", c, s) for c in "AB" for s in ("Oslo", "Rome") for p in "12" for i in "ab"]
    made = pd.DataFrame(rows, columns=["slide", "patient", "diagnosis", "site"])
    split = [TEST if (c, s) == ("B", "Oslo") or p[-1] == "2" else TRAIN for _, p, c, s in rows]
    made.assign(split=split, **columns).to_csv(path, index=False)
    return path


def read(path: Path, column: str = "split") -> Cohort:
    return facade.read(path, label="diagnosis", attributes=["site"], split_column=column)


def test_the_split_stays_and_combinations_without_training_patches_are_unseen(tmp_path: Path) -> None:
    cohort = read(table(tmp_path / "t.csv")).official_split("official_split")
    unseen = (cohort.table["class"] == "B") & (cohort.table["site"] == "Oslo")
    official = cohort.table["official_split"]
    expected = np.where(official == TRAIN, "train", np.where(unseen, "test_unseen", "test_seen"))
    assert cohort.table["split"].tolist() == expected.tolist()
    assert cohort.holdout.held_out == [("B", "Oslo")]
    assert cohort.holdout.cautions() == ["the split is the data set's own (column official_split), not made here"]
    assert cohort.holdout.verify(cohort.table) == []


def test_what_leaks_is_named_and_stays_certified(tmp_path: Path) -> None:
    cohort = read(table(tmp_path / "t.csv"))
    official = cohort.table["official_split"].where(cohort.table["slide"] != "ARome1b", "val")
    official = official.where(~cohort.table["slide"].isin(["BRome1a"]), TEST)
    cohort = cohort.with_columns(fold=official).official_split("fold")
    assert cohort.holdout.cautions()[1:] == [
        "1 patient is in test and train: BRome1",
        "1 patient is in train and validation: ARome1",
    ]
    assert cohort.holdout.certificate["leaks"][0] == {
        "unit": "patient",
        "sides": ["test", "train"],
        "names": ["BRome1"],
    }
    assert cohort.holdout.verify(cohort.table) == [], "the certificate says what leaks: it holds"
    moved = cohort.table.assign(split=cohort.table["split"].mask(cohort.table["slide"] == "ARome2a", "train"))
    assert any("train has" in line for line in cohort.holdout.verify(moved))
    with pytest.raises(MediError, match="patient 'BRome1' trains"):
        facade.utility(cohort.with_columns(features="f.npy!0"), features=_features(tmp_path, len(cohort)))


def _features(folder: Path, rows: int) -> Path:
    np.save(folder / "f.npy", np.random.default_rng(0).normal(size=(rows, 3)))
    return folder / "f.npy"


def test_entries_that_say_nothing_must_be_named(tmp_path: Path) -> None:
    folds = [str(i % 4) for i in range(16)]
    cohort = read(table(tmp_path / "t.csv", fold=folds), "fold")
    with pytest.raises(
        MediError, match=r"column 'fold' has 0, 1, 2, 3: say what each is, such as --split-values train=0"
    ):
        cohort.official_split("fold")
    split = cohort.official_split("fold", {TRAIN: ["0", "1"], "validation": ["2"], TEST: ["3"]})
    assert split.holdout.certificate["rule"]["values"] == {TRAIN: ["0", "1"], "validation": ["2"], TEST: ["3"]}
    for values, message in [
        ({TRAIN: ["7"]}, "no row has '7'; there are 0, 1, 2, 3"),
        ({"learn": ["0"]}, "'learn' is no side; there are train, validation, test, set_aside"),
        ({"validation": ["0", "1"], TEST: ["2", "3"]}, "column 'fold' has no row for train"),
    ]:
        with pytest.raises(MediError, match=message):
            cohort.official_split("fold", values)
    with pytest.raises(MediError, match=r"no column 'foldd' for the split; .*did you mean 'fold'"):
        cohort.official_split("foldd")


@pytest.mark.slow
def test_the_verb_takes_it_and_names_the_leak(tmp_path: Path, medi: Medi) -> None:
    table(tmp_path / "t.csv", fold=["1", "0", *["0"] * 6, *["1"] * 8])
    words = ["t.csv", "--label", "diagnosis", "--attributes", "site"]
    named = ["--split-column", "fold", "--split-values", "train=0", "--split-values", "test=1"]
    shown = fine(medi("holdout", *words, *named, "--out", "h"))
    assert "the split is the data set's own (column fold), not made here" in shown
    assert "1 patient is in test and train: AOslo1" in shown
    assert "certificate holds: 16 patches, 8 patients\n" in fine(medi("holdout", "verify", "h"))
    assert Holdout.load(Path("h")).certificate["leaks"][0]["names"] == ["AOslo1"]
    assert "data set's own" in fine(medi("holdout", *words, "--split-column", "split", "--out", "h2"))
    refused(medi("holdout", *words, *named, "--rate", "0.2", "--out", "h3"), "--rate does not go with it")
    refused(medi("holdout", *words, "--split-values", "train=0", "--out", "h3"), "name that column")
    refused(medi("holdout", *words, "--split-column", "nope", "--out", "h3"), "no column 'nope' for the split")
