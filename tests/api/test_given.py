"""Features in place of images: from file to verdict, the same figures as from images, one encoder (P2, P13)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medi
from command_line import Medi, fine, refused
from feature_files import WIDTH, h5, numbers, parts, table_of
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.core.errors import MediError

pytest.importorskip("h5py")
SLIDES, N = 24, 4
PAIRS = [(name, site) for name in ("acinar", "spindle") for site in ("Alder", "Birch")]


@pytest.fixture
def real(tmp_path: Path) -> Cohort:
    """Features of 24 slides, every second patient of each combination for testing."""
    folder = tmp_path / "features"
    folder.mkdir()
    for slide, (features, coords) in parts(N, SLIDES).items():
        h5(folder / f"{slide}.h5", features, coords, encoder="uni_v1", transform="224 px")
    table = table_of(tmp_path / "slides.csv", SLIDES)
    cohort = medi.read(table, features=folder, label="diagnosis", attributes=["site"])
    tests = cohort.table["slide"].str[1:].astype(int) // 4 % 2
    return cohort.with_columns(split=tests.map({0: "train", 1: "test_seen"}))


def synthetic(path: Path, n: int = 40, width: int = WIDTH, **said: str) -> Path:
    """Features of a generator, with class and site beside them."""
    import h5py

    label, site = np.arange(n) % 2, np.arange(n) // 2 % 2
    features = numbers(n, width, seed=9)
    features[:, 0] += 3 * label
    h5(path, features, None, **said)
    with h5py.File(path, "a") as file:
        file["class"], file["site"] = [["A", "B"][i] for i in label], [["Rome", "Oslo"][i] for i in site]
    return path


def arms(found: medi.Utility) -> pd.DataFrame:
    return found.to_frame().set_index("arm")


@pytest.mark.slow
def test_figures_are_those_of_the_same_features_made_here_p2(tmp_path: Path) -> None:
    cohort = phantom.fresh(PAIRS, 8, 0, "real", patches_per_slide=4)
    odd = cohort.table["patient"].isin(sorted(set(cohort.table["patient"]))[::2])
    cohort = cohort.with_columns(split=odd.map({True: "test_seen", False: "train"}))
    medi.embed(cohort).save(tmp_path / "f.parquet")
    bare = Cohort(cohort.table, cohort.schema)
    one, other = medi.utility(cohort, arms="none"), medi.utility(bare, features=tmp_path / "f.parquet", arms="none")
    pd.testing.assert_frame_equal(one.tables["utility"], other.tables["utility"])
    assert "features" in other.title


@pytest.mark.slow
def test_every_arm_that_needs_images_has_a_reason(real: Cohort, tmp_path: Path) -> None:
    found = arms(medi.utility(real, made=synthetic(tmp_path / "made.h5")))
    for name in ("macenko", "reinhard", "hed_jitter", "randstainna", "translated", "style", "made_macenko"):
        assert np.isnan(found.loc[name, "value"])
        assert "needs images" in found.loc[name, "reason"]
    for name in ("real", "made", "made_only", "made_filtered", "coral", "lisa", "pure_noise"):
        assert 0 <= found.loc[name, "value"] <= 1, name
    with pytest.raises(MediError, match=r"arm 'translatedd' is unknown; .*did you mean 'translated'"):
        medi.utility(real, arms=["translatedd"])


@pytest.mark.slow
def test_fidelity_tells_copies_by_images_alone(real: Cohort, tmp_path: Path) -> None:
    found = medi.fidelity(real, made=synthetic(tmp_path / "made.h5"), n=20, draws=0)
    rows = found.tables["memorisation"].set_index("metric")
    assert "copies are told by images; features alone are given" in rows.loc["copy_rate", "reason"]
    assert found.encoder == "uni_v1 as-given"
    assert found.suspects is None
    assert "do not record the encoder of made and the transform of made" in str(found)
    found.save(tmp_path / "out")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"encoder": "virchow2"},
            r"real \(.*features\) has the encoder uni_v1, made \(.*\) the encoder virchow2: embed",
        ),
        ({"encoder": "uni_v1", "transform": "256 px"}, r"has the transform 224 px, made \(.*\) the transform 256 px"),
        ({"width": 9}, r"has 6 numbers a patch, made \(.*\) 9 numbers a patch"),
    ],
)
def test_sets_of_two_encoders_are_refused_and_both_are_named(
    said: dict[str, str], message: str, real: Cohort, tmp_path: Path
) -> None:
    made = synthetic(tmp_path / "made.h5", **said)
    for measure in (medi.utility, medi.fidelity):
        with pytest.raises(MediError, match=message):
            measure(real, made=made)


@pytest.mark.slow
def test_sets_are_compared_with_each_other_where_the_real_one_says_nothing(real: Cohort, tmp_path: Path) -> None:
    """Defect: each set was compared with the real one alone."""
    bare = {**real.info["features"], "encoder": ""}
    real = Cohort(real.table, real.schema, None, {**real.info, "features": bare})
    sets = {name: synthetic(tmp_path / f"{name}.h5", encoder=name) for name in ("one", "two")}
    with pytest.raises(MediError, match=r"one \(.*\) has the encoder one, two \(.*\) the encoder two: embed"):
        medi.utility(real, sets)
    found = medi.fidelity(real, one=sets["one"], n=4, draws=0)
    assert found.remarks == (
        "Files of features do not record the encoder of real and the transform of one: whether all sets were made in "
        "one way is not known.",
    )


def test_images_and_features_are_not_compared(real: Cohort) -> None:
    with pytest.raises(MediError, match="real has features and made images alone: give features of made"):
        medi.utility(real, made=phantom.fresh(PAIRS, 4, 1, "made").with_columns(**{"class": "A", "site": "Rome"}))


@pytest.mark.slow
def test_constant_features_are_a_reason_in_the_result(tmp_path: Path, real: Cohort) -> None:
    for file in (tmp_path / "features").iterdir():
        h5(file, np.full((N, WIDTH), 0.1, dtype=np.float32), parts(N)["s0"][1])
    found = arms(medi.utility(real))
    assert found.loc["real", "reason"].startswith("real's features are the same in all rows: no probe")
    assert np.isnan(found.loc["real", "value"])


def test_files_that_have_changed_since_are_named(tmp_path: Path, real: Cohort) -> None:
    h5(tmp_path / "features" / "s3.h5", numbers(2), None)
    with pytest.raises(MediError, match=r"s3.h5: has \[2, 6\] numbers; when the table was read it had 6 a row and at"):
        medi.utility(real)


@pytest.mark.slow
def test_from_file_to_verdict_by_the_documented_commands(tmp_path: Path, real: Cohort, medi: Medi) -> None:
    """A holdout from a table and a folder, and two files that say themselves what they are of."""
    words = ["--label", "diagnosis", "--attributes", "site"]
    fine(medi("holdout", "slides.csv", "--features", "features", *words, "--over", "class,site", "--out", "held"))
    remedy = fine(medi("recommend", "held", "--sets", "real", "--heads", "logistic", "--out", "r"))
    assert "real training patches" in remedy
    assert "CRoMa, median" in fine(medi("robustness", "held", "--attribute", "site", "--out", "rob"))
    made = synthetic(tmp_path / "made.h5", encoder="uni_v1")
    done = fine(medi("utility", "held", f"medi={made.name}", "--arms", "none", "--out", "u"))
    assert "MeDi" in done
    assert "next: medi report --real held --utility u" in done
    assert "uni_v1" in fine(medi("fidelity", "held", f"medi={made.name}", "--n", "4", "--draws", "0", "--out", "f"))
    columns = real.table[["class", "site", "patient", "slide", "split", "sample_id"]].reset_index(drop=True)
    features = np.concatenate([found for found, _ in parts(N, SLIDES).values()])
    np.savez("real.npz", features=features, **{name: columns[name].to_numpy(dtype=str) for name in columns})
    assert "+ MeDi" in fine(medi("utility", "medi=made.h5", "--features", "real.npz", "--arms", "none", "--out", "u2"))
    refused(medi("utility", "held", "medi=held", "--features", "nowhere", "--out", "u3"), "nowhere: no such file")
