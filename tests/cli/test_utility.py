"""The verb utility as a user runs it, on cohorts that `Cohort.save` wrote."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.table import Cohort, concatenate
from small_cohorts import CLASSES, SITES


@pytest.mark.slow
def test_utility_adds_what_fills(medi: Medi, folders: Path) -> None:
    arms = [f"good={folders / 'good'}", f"flat={folders / 'flat'}"]
    shown = fine(medi("utility", folders / "real", *arms, "--over", "class,site", "--arms", "none", "--out", "u"))
    found = pd.read_parquet("u/utility.parquet")
    accuracy = found[(found["metric"] == "balanced_accuracy") & (found["scope"] == "all")]
    assert set(zip(accuracy["arm"], accuracy["split"])) == {
        (arm, split) for arm in ("real", "good", "flat", "pure_noise") for split in ("seen", "unseen", "all")
    }
    train = Cohort.load(folders / "real").where(split="train")
    counts = accuracy.set_index(["arm", "split"])["n_train"]
    assert counts["real", "seen"] == len(train)
    assert counts["good", "seen"] == len(train) + 80, "half of them fill"
    assert counts["flat", "seen"] == len(train) + 160, "all of them, where no column says"
    assert "real training patches" in shown
    curves = pd.read_parquet("u/curves.parquet")
    assert set(curves["x_name"]) == {"ratio", "n_train", "real_per_class", "sites"}


@pytest.mark.slow
def test_utility_of_a_task_against_baselines(medi: Medi, folders: Path) -> None:
    """A task by its classes, synthetic patches as MeDi's, stain arms among the others, gaps between groups."""
    task, over = ",".join(CLASSES), "class,site"
    given = ["utility", folders / "real", f"medi={folders / 'good'}", "--over", over, "--task", task]
    shown = fine(medi(*given, "--arms", "combination_weights,macenko", "--attribute", "group", "--out", "u"))
    assert f"classes: {task}" in shown
    assert "Macenko" in shown
    assert "chance" in shown
    found = pd.read_parquet("u/utility.parquet")
    assert set(found["task"]) == {task}
    overall = found[(found["metric"] == "balanced_accuracy") & (found["scope"] == "all")]
    assert set(overall["arm"]) == {"real", "medi", "combination_weights", "macenko", "medi_macenko", "pure_noise"}
    gaps = found[(found["metric"] == "demographic_parity_gap") & (found["split"] == "seen")]
    assert set(gaps["scope"]) == {"site", "group"}


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_every_set_under_every_head_that_is_named(medi: Medi, folders: Path) -> None:
    """The table `heads`, its lines on the terminal and in the report; the other tables stay as without heads."""
    given = ["utility", folders / "real", f"medi={folders / 'good'}", "--over", "class,site", "--arms", "none"]
    fine(medi(*given, "--out", "plain"))
    shown = fine(medi(*given, "--heads", "logistic,two_way", "--out", "u"))
    assert "Under one and the same head, MeDi less real only is" in shown.replace("\n", " ")
    found = pd.read_parquet("u/heads.parquet")
    assert set(found["head"]) == {"logistic", "two_way", "soft_vote", "chosen"}
    assert set(found["arm"]) == {"real", "medi", "medi_gap", "pure_noise"}
    pd.testing.assert_frame_equal(pd.read_parquet("plain/utility.parquet"), pd.read_parquet("u/utility.parquet"))
    fine(medi("report", "--real", folders / "real", f"medi={folders / 'good'}", "--utility", "u", "--out", "page"))
    assert "training sets by heads" in Path("page/report.html").read_text(encoding="utf-8")
    refused(medi(*given, "--heads", "logistic", "--out", "u"), "u", "heads")
    refused(medi(*given, "--heads", "twoway", "--out", "v"), "head 'twoway' is unknown", "did you mean 'two_way'")


@pytest.mark.slow
def test_a_site_that_training_never_saw_is_a_split_of_its_own(medi: Medi, folders: Path, tmp_path: Path) -> None:
    real = Cohort.load(folders / "real")
    gone = (real.table["site"] == SITES[0]).to_numpy()
    split = np.where(
        gone, "test_unseen", np.where(real.table["split"] == "test_unseen", "reserve", real.table["split"])
    )
    real.with_columns(split=split).save(tmp_path / "site")
    fine(medi("utility", tmp_path / "site", "--over", "class,site", "--arms", "none", "--head", "medi", "--out", "u"))
    assert set(pd.read_parquet("u/utility.parquet")["split"]) == {"seen", "unseen_sites", "all", ""}


@pytest.mark.slow
def test_mistakes_get_one_line(medi: Medi, folders: Path) -> None:
    real, good = folders / "real", folders / "good"
    refused(medi("utility", good), "no patch is for training", "medi holdout")
    refused(medi("utility", real, "--task", "nsclc"), "task nsclc", "LUAD, LUSC", CLASSES[0])
    refused(medi("utility", real, "--task", CLASSES[0]), "two classes or more")
    refused(medi("utility", real, "--head", "best", "--over", "class,site"), "best", "tuned, medi, uni")
    refused(medi("utility", real, "--arms", "coal", "--over", "class,site"), "coal", "coral")
    refused(medi("utility", real, "--attribute", "race", "--over", "class,site"), "race")


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused_before_a_patch_is_embedded(
    medi: Medi, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embedded(*given: object) -> None:
        raise AssertionError("patches were embedded first")

    monkeypatch.setattr("medi.api.given.cached", embedded)
    real, over = folders / "real", ("--over", "class,site")
    refused(medi("utility", real, "--arms", "coal", *over), "coal", "did you mean 'coral'?")
    refused(medi("utility", real, "--arms", "macenk", *over), "did you mean 'macenko'?")
    refused(medi("utility", real, "--head", "best", *over), "best", "tuned, medi, uni")
    refused(medi("utility", real, "--task", "nsclc", *over), "task nsclc")
    refused(medi("utility", real, "--attribute", "race", *over), "race")
    cohort = Cohort.load(real)
    both = cohort.with_columns(patient=cohort.table["patient"].mask(cohort.table.index < 200, "P"))
    both.save("both")
    refused(medi("utility", "both", *over), "'P' trains in arm real and tests")
    Cohort(cohort.table.drop(columns="group"), cohort.schema, cohort.pixels).save("odd")
    refused(medi("fidelity", real, "odd=odd", "--over", "class,group"), "the odd table lacks the columns group")


@pytest.mark.slow
def test_a_sweep_of_confounding_writes_a_table_and_a_figure(medi: Medi, tmp_path: Path) -> None:
    pairs = [(c, s) for c in phantom.CLASSES[:2] for s in phantom.SITES[:2]]
    train = phantom.fresh(pairs, 20, 0, "train").with_columns(split="train")
    test = phantom.fresh(pairs, 5, 0, "test").with_columns(split="test_seen")
    concatenate([train, test]).save(tmp_path / "crossed")
    asked = ("--sweep", "--heads", "logistic", "--over", "class,site", "--out", "swept")
    shown = fine(medi("utility", tmp_path / "crossed", *asked))
    assert "by Cramer's V of class and site; 40 training" in shown
    assert "\\n" not in shown, "defect: the table stood in one line"
    assert next(line for line in shown.splitlines() if "oracle" in line).split()[:2] == ["oracle", "logistic"]
    assert Path("swept/sweep.png").read_bytes().startswith(b"\x89PNG")
    found = pd.read_parquet("swept/sweep.parquet")
    assert set(found["strength"].dropna()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert (found["metric"] == "nipd").sum() == 2, "real and Macenko"
    refused(medi("utility", tmp_path / "crossed", "made=x", *asked), "leave made=x out")
    refused(medi("utility", tmp_path / "crossed", "--task", "A,B", *asked), "--sweep does not go with --task")
