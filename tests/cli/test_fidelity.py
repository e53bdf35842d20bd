"""The verb fidelity as a user runs it, on cohorts that `Cohort.save` wrote."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.evaluation.encoders import COLOUR_TEXTURE, embed
from medi.evaluation.fidelity.frechet import frechet_distance
from small_cohorts import CLASSES, COMBINATIONS, HELD


@pytest.mark.slow
def test_fidelity_tells_fresh_patches_from_flat_ones(medi: Medi, folders: Path) -> None:
    arms = [f"good={folders / 'good'}", f"flat={folders / 'flat'}"]
    shown = fine(
        medi("fidelity", folders / "real", *arms, "--over", "class,site", "--n", "24", "--draws", "50", "--out", "f")
    )
    assert "240 real patches of 40 slides" in shown
    found = pd.read_parquet("f/fidelity.parquet")
    distances = found[found["metric"] == "frechet"]
    mean = distances.groupby(["scope", "arm"])["value"].mean()
    for scope in ("combination", "class"):
        assert mean[scope, "good"] < 3 * mean[scope, "floor"]
        assert mean[scope, "flat"] > 10 * mean[scope, "good"]
    cells = distances[distances["scope"] == "combination"]
    unseen = set(cells.loc[cells["split"] == "unseen", ["class", "site"]].itertuples(index=False, name=None))
    assert unseen == {HELD}, "the training rows say what is unseen"
    assert COLOUR_TEXTURE.hash in set(found["encoder"]).pop()
    assert {"class", "site", "class_mean", "site_mean"} <= set(found["scope"])


@pytest.mark.slow
def test_the_tables_of_another_request_are_not_overwritten_p15(medi: Medi, folders: Path) -> None:
    asked = ("--over", "class,site", "--n", "8", "--draws", "0", "--out", "f")
    fine(medi("fidelity", folders / "real", *asked))
    before = Path("f/fidelity.parquet").stat().st_mtime_ns
    refused(
        medi("fidelity", folders / "real", *asked, "--seed", "1"),
        "f: holds another result of medi fidelity: seed 0, now 1;",
    )
    more = (f"good={folders / 'good'}",)
    refused(
        medi("fidelity", folders / "real", *more, *asked),
        "cohorts ['real'], now ['real', 'good']; choose another --out",
    )
    assert Path("f/fidelity.parquet").stat().st_mtime_ns == before
    fine(medi("fidelity", folders / "real", *asked))


@pytest.mark.slow
def test_fidelity_tells_who_obeys_and_who_copies(medi: Medi, folders: Path) -> None:
    real = Cohort.load(folders / "real")
    train = np.flatnonzero(real.table["split"] == "train")
    split = real.table["split"].to_numpy(dtype=object)
    split[train[::3]] = "reserve"  # of the slides that train
    real.with_columns(split=split).save(Path("reserved"))
    kept = real.select(np.flatnonzero(split == "train"))
    kept.with_columns(sample_id="copy" + kept.table["sample_id"], slide="", patient="").save(Path("copies"))
    arms = [f"good={folders / 'good'}", "copies=copies"]
    shown = fine(
        medi("fidelity", "reserved", *arms, "--over", "class,site", "--n", "20", "--draws", "50", "--out", "f")
    )
    rates = pd.read_parquet("f/memorisation.parquet").set_index(["metric", "arm"])["value"]
    assert rates["copy_rate", "copies"] > 0.99
    assert rates["copy_rate", "good"] < 0.1
    assert "copies, copy rate: 1.000" in shown
    suspects, sheet = pd.read_parquet("f/suspects.parquet"), Cohort.load(Path("f/suspects"))
    closest = suspects[suspects["arm"] == "copies"]
    assert (closest["sample_id"] == "copy" + closest["neighbour"]).all()
    assert set(sheet.table["role"]) == {"synthetic", "training"}
    control = pd.read_parquet("f/control.parquet")
    obeyed = control[(control["metric"] == "as_asked") & (control["scope"] == "all")]
    assert {"real", "good", "copies"} == set(obeyed["arm"])
    assert obeyed.groupby("arm")["value"].mean()["good"] > 0.7
    confusion = pd.read_parquet("f/confusion.parquet")
    assert (confusion.groupby(["arm", "attribute", "requested"])["share"].sum() - 1).abs().max() < 1e-9


@pytest.mark.slow
def test_fidelity_of_real_patches_alone_is_the_floor(medi: Medi, folders: Path) -> None:
    fine(
        medi(
            "fidelity",
            folders / "real",
            "--over",
            "class",
            "--split",
            "train",
            "--n",
            "20",
            "--draws",
            "0",
            "--out",
            "f",
        )
    )
    found = pd.read_parquet("f/fidelity.parquet")
    assert set(found["arm"]) == {"floor"}
    cohort = Cohort.load(folders / "real").where(split="train")
    whole = embed(cohort, COLOUR_TEXTURE).astype(np.float64)
    one = cohort.table["class"].to_numpy() == CLASSES[0]
    across = frechet_distance(whole[one], whole[~one])
    distances = found[found["metric"] == "frechet"]
    known = distances["value"].dropna()  # of halves with too few patches there is no distance
    assert len(known) > 2
    assert (known < across).all(), "halves of one class are nearer than two classes"


@pytest.mark.slow
def test_mistakes_get_one_line(medi: Medi, folders: Path, tmp_path: Path) -> None:
    real, good = folders / "real", folders / "good"
    refused(medi("fidelity", real, good), "NAME=COHORT")
    refused(medi("fidelity", real, f"floor={good}"), "'floor' is taken")
    refused(medi("fidelity", real, f"a={good}", f"a={good}"), "'a' is taken")
    refused(medi("fidelity", real, "--over", "class,scanner"), "scanner", "site")
    refused(medi("fidelity", real, "--over", "site"), "class")
    refused(medi("fidelity", real, "--split", "valid"), "valid", "train")
    grey = Cohort.load(good)
    plain = np.repeat(grey.images[:].mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    Cohort(grey.table, grey.schema, Pixels.of(plain)).save(tmp_path / "grey")
    refused(medi("fidelity", real, f"grey={tmp_path / 'grey'}"), "grey has grey patches", "real")
    large = phantom.fresh(COMBINATIONS, 2, seed=0, stream="large", size=64)
    large.save(tmp_path / "large")
    refused(medi("fidelity", real, f"large={tmp_path / 'large'}"), "64 px", "32")
