"""A probe under stress on features alone: flips that are planted, rows in any order, what is refused (P5, P7)."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.cohort.readers import read
from medi.core.errors import MediError
from medi.core.files import read_json, read_table, write_json
from medi.stress.features import NO_FLOOR, stress_features
from medi.stress.measuring import UNKNOWN, some_of
from medi.stress.results import refuse_another

TRAIN, N = 48, 72  # patches for training, and all
SHOWN = np.arange(TRAIN, N)
FLIPPED = [48, 49, 52, 50, 51]  # rows whose first number changes its sign at scanner B: three of class A, two of B
COMMAND = ("stress", "probe", "real.npz", "--attribute", "scanner", "--out", "o")


def table_of() -> pd.DataFrame:
    """Two patches a slide, a slide a patient; classes and scanners are crossed."""
    slide = np.arange(N) // 2
    names = {"sample_id": [f"r{i}" for i in range(N)], "slide": [f"s{i}" for i in slide]}
    table = pd.DataFrame(names).assign(patient=[f"p{i}" for i in slide])
    table["class"] = np.array(["A", "B"])[slide % 2]
    table["scanner"] = np.array(["X", "Y"])[slide // 2 % 2]
    return table.assign(split=["train"] * TRAIN + ["test_seen"] * (N - TRAIN))


def numbers() -> np.ndarray:
    """The class is the sign of the first number, and of no other."""
    noise = np.random.default_rng(0).normal(size=(N, 4))
    sign = np.where(table_of()["class"] == "B", 1.0, -1.0)
    return np.column_stack([sign * (4 + np.abs(noise[:, 0])), noise[:, 1:]]).astype(np.float32)


def flipped() -> np.ndarray:
    x = numbers()
    x[FLIPPED, 0] *= -1
    return x


def save(name: str, x: np.ndarray, columns: pd.DataFrame, encoder: str = "uni") -> None:
    arrays = {column: columns[column].to_numpy(dtype=str) for column in columns}
    np.savez(name, features=x, encoder=np.array(encoder), **arrays)


@pytest.fixture
def verb(medi: Medi) -> Medi:
    """medi in a folder with features of the patches as they are, and of those that are shown at scanner B."""
    save("real.npz", numbers(), table_of())
    order = np.random.default_rng(1).permutation(SHOWN)
    save("b.npz", flipped()[order], table_of().iloc[order][["sample_id"]])
    return medi


def pick(table: pd.DataFrame, metric: str, kind: str, class_: str = "", level: str = "") -> Any:
    wanted = {"metric": metric, "kind": kind, "class": class_, "level": level}
    (row,) = table[(table[list(wanted)] == list(wanted.values())).all(axis=1)].to_dict("records")
    return row


@pytest.mark.slow
def test_planted_flips_are_counted_whatever_the_order_of_rows(verb: Medi) -> None:
    shown = fine(verb(*COMMAND, "--changed", "B=b.npz"))
    assert "24 patches at another scanner: 21 % flip" in shown
    assert "No patch of the cohort has the scanner B." in shown, "a new scanner is taken, and named"
    table = read_table(Path("o/tables/stress.parquet"))
    assert pick(table, "flip_rate", "change")["value"] == pytest.approx(5 / 24)
    assert pick(table, "flip_rate", "change", "A", "B")["value"] == pytest.approx(3 / 12)
    assert pick(table, "flip_rate", "change", "B", "B")["value"] == pytest.approx(2 / 12)
    assert pick(table, "accuracy", "as is")["value"] == 1
    assert pick(table, "accuracy", "change", level="B")["value"] == pytest.approx(19 / 24)
    floor = pick(table, "flip_rate", "floor")
    assert np.isnan(floor["value"])
    assert floor["reason"] == "no patches", "P7: no features of a patch's own level, no floor"
    results, worst = read_json(Path("o/results.json")), read_table(Path("o/worst/table.parquet"))
    assert (results["patches"], results["levels"], results["changed"]) == (24, ["B"], {"B": "b.npz"})
    assert NO_FLOOR in results["remarks"]
    planted = {f"r{i}" for i in FLIPPED}
    assert set(worst["source"].iloc[: 2 * len(planted)]) == planted, "the largest changes are those that were planted"
    page = Path("o/stress.html").read_text(encoding="utf-8")
    assert "features of 24 at another scanner (B from b.npz)" in page
    assert "diffusion model" not in page
    save("c.npz", numbers() + 1, table_of()[["sample_id"]])
    refused(verb(*COMMAND, "--changed", "C=c.npz"), "o: holds another stress test", "choose another --out")


@pytest.mark.slow
def test_the_floor_is_made_of_features_of_a_patchs_own_level(verb: Medi) -> None:
    """Scanner X again: patches of X are the floor, those of Y are changed; one file without names, in order."""
    x, own = numbers(), (table_of()["scanner"] == "X").to_numpy()
    first = SHOWN[own[SHOWN]][:1]
    x[first, 0] *= -1
    np.save("x.npy", x)
    found = stress_features("real.npz", {"X": "x.npy", "B": "b.npz"}, "o")
    assert found.attribute == "scanner"
    assert found.figures["flip_rate floor"][0] == pytest.approx(1 / own[SHOWN].sum())
    assert pick(found.table, "flip_rate", "change", level="X")["value"] == 0
    assert pick(found.table, "flip_rate", "change", level="B")["value"] == pytest.approx(5 / 24)
    assert NO_FLOOR not in found.remarks


@pytest.mark.slow
def test_a_probe_is_never_shown_whom_it_learned_from_p5(verb: Medi) -> None:
    """Its own cohort shows it test patches alone; another cohort must have other patients, slides and patches."""
    changed = {"B": "b.npz"}
    assert stress_features("real.npz", changed, "o").patches == N - TRAIN
    rows = table_of()
    save("whole.npz", numbers(), rows.drop(columns="split"))
    with pytest.raises(MediError, match="no patch is for training"):
        stress_features("whole.npz", changed, "o2")
    save("part.npz", numbers()[SHOWN], rows.iloc[SHOWN].drop(columns="split"))
    assert stress_features("part.npz", changed, "o3", train="real.npz").patches == N - TRAIN
    with pytest.raises(MediError, match="'p0' trains the probe and tests it"):
        stress_features("whole.npz", {"B": "b.npz"}, "o4", train="real.npz")


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused_by_name(verb: Medi) -> None:
    names, x = table_of()[["sample_id"]], flipped()
    save("other.npz", x, names, encoder="virchow")
    save("wide.npz", np.column_stack([x, x]), names, encoder="")
    save("few.npz", x[SHOWN[1:]], names.iloc[SHOWN[1:]])
    save("none.npz", x[:TRAIN], names.iloc[:TRAIN])
    save("constant.npz", np.ones_like(x), names)
    x[60, 1] = np.nan
    save("nan.npz", x, names)
    cases = {
        "other": ("the encoder uni", "the encoder virchow"),
        "wide": ("4 numbers a patch", "8 numbers a patch"),
        "few": ("few.npz: 1 of 24 patches that are shown have no features at B, first 'r48'",),
        "none": ("none.npz: 24 of 24 patches",),
        "constant": ("features B", "the same in all rows"),
        "nan": ("nan.npz row 61", "not finite"),
        "real": ("those of the patches as they are",),
    }
    for name, words in cases.items():
        refused(verb(*COMMAND, "--changed", f"B={name}.npz"), *words)
    refused(verb(*COMMAND, "--changed", "B=b.npz", "--attribute", "scaner"), "did you mean 'scanner'")
    assert not Path("o/results.json").exists()


@pytest.mark.slow
def test_a_file_per_slide_is_counted_off_where_coordinates_agree(verb: Medi) -> None:
    """From a table of slides to the answer by the commands of the page on inputs; rows in another order are told."""
    of_slides(Path("features_uni"), numbers())
    of_slides(Path("features_b"), flipped())
    slides = table_of().drop_duplicates("slide")[["slide", "patient", "class", "scanner", "split"]]
    slides.rename(columns={"class": "diagnosis"}).to_csv("slides.csv", index=False)
    named = ("--label", "diagnosis", "--attributes", "scanner", "--split-column", "split")
    values = ("--split-values", "train=train", "--split-values", "test=test_seen")
    fine(verb("holdout", "slides.csv", "--features", "features_uni", *named, *values, "--out", "my-holdout"))
    command = shlex.split("stress probe my-holdout --changed scanner-B=features_b")
    assert "24 patches at another scanner: 21 % flip" in fine(verb(*command))
    of_slides(Path("features_b"), flipped(), order=-1)
    words = "s24.npz!0 at scanner-B lies at (256, 0), 's24/0_0' at (0, 0): not one patch"
    refused(verb(*command, "--out", "o"), words)


def of_slides(folder: Path, x: np.ndarray, order: int = 1) -> None:
    """A file per slide, as CLAM and TRIDENT have it, of two patches with their coordinates."""
    folder.mkdir(exist_ok=True)
    for i in range(N // 2):
        coords = np.array([[0, 0], [256, 0]])
        np.savez(folder / f"s{i}.npz", features=x[2 * i : 2 * i + 2][::order], coords=coords[::order])


def test_a_model_and_changed_features_do_not_go_together(verb: Medi) -> None:
    given = ("--changed", "B=b.npz")
    refused(verb(*COMMAND, *given, "--model", "m"), "--changed does not go with --model")
    refused(verb(*COMMAND, *given, "--steps", "3"), "--changed does not go with --steps")
    refused(verb("stress", "mine.onnx", *COMMAND[2:], *given), "only a probe of ours takes", "'mine.onnx'")
    refused(verb(*COMMAND, "--changed", "b.npz"), "expected LEVEL=PATH")
    refused(verb(*COMMAND, *given, *given), "the name 'B' is taken")
    refused(verb(*COMMAND), "--model MODEL translates images", "--changed LEVEL=PATH")
    assert not Path("o/results.json").exists()


@pytest.mark.slow
def test_a_patch_whose_class_is_not_known_is_a_class_of_its_own(verb: Medi) -> None:
    table = table_of()
    table.loc[60, "class"] = ""
    save("real.npz", numbers(), table)
    fine(verb(*COMMAND, "--changed", "B=b.npz"))
    found = read_table(Path("o/tables/stress.parquet"))
    assert pick(found, "flip_rate", "change", UNKNOWN)["n"] == 1
    assert pick(found, "flip_rate", "change")["n"] == N - TRAIN
    assert UNKNOWN in Path("o/stress.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_other_request_is_written_over_a_result_p15(verb: Medi) -> None:
    """The same one is; other seeds, patches, levels, training sets and numbers are refused, and so is a model."""
    given = (*COMMAND, "--changed", "B=b.npz")
    fine(verb(*given))
    fine(verb(*given))
    refused(verb(*given, "--seed", "1"), "o: holds another stress test: seed 0, now 1")
    refused(verb(*given, "--patches", "9"), "patches 24, now 9")
    refused(verb(*given, "--changed", "C=b.npz"), "levels ['B'], now ['B', 'C']")
    with pytest.raises(MediError, match="changed by given features, now a model"):
        refuse_another(Path("o"), {"classifier": "probe on uni", "attribute": "scanner"})
    save("b.npz", flipped() + 1, table_of()[["sample_id"]])
    refused(verb(*given), "another set of changed features")
    save("b.npz", flipped(), table_of()[["sample_id"]])
    fine(verb(*given))  # these numbers again, in a file of another order
    x = numbers()
    x[0, 1] += 1
    save("real.npz", x, table_of())
    refused(verb(*given), "another training set (other rows or features)")
    x[SHOWN[0], 1] += 1
    save("real.npz", x, table_of())
    refused(verb(*given), "another set of patches to show (other rows or features)")


def test_a_model_and_given_features_are_not_one_request(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", {"classifier": "probe on uni", "attribute": "scanner", "changed": {}})
    with pytest.raises(MediError, match="changed by a model, now given features"):
        refuse_another(tmp_path, {"classifier": "probe on uni", "attribute": "scanner", "changed": {"B": "b.npz"}})


@pytest.mark.slow
def test_one_patch_a_slide_is_found_again_by_its_coordinates(verb: Medi) -> None:
    """A table of slides became patches by their features already; those of another scanner add none."""
    rows = np.arange(0, N, 2)
    for folder, x in (("features_a", numbers()), ("features_b", flipped())):
        Path(folder).mkdir()
        for row in rows:
            np.savez(Path(folder) / f"s{row // 2}.npz", features=x[[row]], coords=np.array([[0, 256]]))
    columns = ["slide", "patient", "class", "scanner"]
    table_of().iloc[rows][columns].to_csv("slides.csv", index=False)
    real = read("slides.csv", features="features_a", attributes=["scanner"])
    real = real.with_columns(split=table_of()["split"].iloc[rows].tolist())
    assert real.table["sample_id"].str.endswith("/0_256").all()
    found = stress_features(real, {"B": "features_b"}, "o", attribute="scanner")
    assert (found.patches, found.figures["flip_rate change"][0]) == (12, pytest.approx(3 / 12))


@pytest.mark.slow
def test_a_few_drawn_patches_may_be_the_same_at_both_levels(verb: Medi) -> None:
    """Features that changed at one patch that is not drawn are other features all the same."""
    whole = read("real.npz", attributes=["scanner"]).where(split=["test_seen"])
    drawn = set(some_of(whole, 3, 0).table["sample_id"])
    x = numbers()
    x[next(row for row in SHOWN if f"r{row}" not in drawn)] *= -1
    save("one.npz", x, table_of()[["sample_id"]])
    assert stress_features("real.npz", {"B": "one.npz"}, "o", most=3).figures["flip_rate change"][0] == 0
    with pytest.raises(MediError, match="those of the patches as they are"):
        stress_features("real.npz", {"B": "real.npz"}, "o2", most=3)


def test_features_of_the_cohort_go_with_changed_ones_alone(verb: Medi) -> None:
    refused(verb(*COMMAND, "--model", "m", "--features", "b.npz"), "--features goes with --changed LEVEL=PATH alone")
