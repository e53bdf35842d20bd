"""The verb sample as a user runs it: from tables and plans, in shards and workers, guided."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.cohort.pixels import Pixels
from medi.cohort.plan import balance
from medi.cohort.table import Cohort
from medi.core.files import write_table
from small_cohorts import MODEL_SCHEMA as SCHEMA

QUICK = ("--steps", 2, "--batch", 8)


@pytest.mark.slow
def test_a_table_of_counts_becomes_a_cohort(verb: Medi) -> None:
    assert "sampled: 11 images, dpm_solver_2m, 2 steps" in fine(verb("sample", "m", "plan.csv", "--out", "s", *QUICK))
    cohort = Cohort.load(Path("s"))
    assert cohort.images[:].shape == (11, 8, 8, 3)
    assert cohort.table.groupby(["class", "site"]).size().to_dict() == {
        ("LUAD", "NA"): 5,
        ("LUSC", ""): 2,
        ("LUSC", "Asterand:0.7+X:0.3"): 4,
    }
    before = Path("s/pixels.npy").stat().st_mtime_ns
    fine(verb("sample", "m/model.safetensors", "plan.csv", "--out", "s", *QUICK))
    assert Path("s/pixels.npy").stat().st_mtime_ns == before, "done before"


def test_a_condition_that_training_rows_never_lacked_is_not_sampled_without_it(verb: Medi) -> None:
    """Its vector for "not known" has learned nothing."""
    Path("empty.csv").write_text("class,site,n\nLUAD,NA,2\n,NA,3\n")
    refused(verb("sample", "m", "empty.csv", *QUICK), "class is empty in row 2", "(3 in all)", "m/model.safetensors")


@pytest.mark.slow
def test_shards_are_joined_by_the_last_one(verb: Medi) -> None:
    """P3: a plan folder, sampled whole and in two shards."""
    train = pd.DataFrame({"class": ["LUAD", "LUSC"], "site": ["NA", "X"], "split": ["train"] * 2})
    plan = balance(train, SCHEMA, to=6)
    plan.save(Path("plan"))
    write_table(Path("plan/rows.parquet"), plan.expand(0))
    fine(verb("sample", "m", "plan", "--out", "whole", "--seed", 3, *QUICK))
    shared = ("sample", "m", "plan", "--out", "shards", "--seed", 3, *QUICK)
    assert "shard 1/2 is done" in fine(verb(*shared, "--shard", "1/2"))
    assert not Path("shards/cohort.json").exists()
    assert f"sampled: {len(plan)} images" in fine(verb(*shared, "--shard", "0/2"))
    assert Cohort.load(Path("shards")).digest() == Cohort.load(Path("whole")).digest()


@pytest.mark.slow
def test_workers_make_the_same_cohort(verb: Medi) -> None:
    """P3: two processes share two batches; what they left is the same to the bit."""
    guidance = ("--guidance", "class=0.5", "--guidance-interval", "0.1,5")
    eta = ("--eta", 0.7, "--eta-interval", "0.3,30")
    shared = ("sample", "m", "plan.csv", "--sigma-min", 0.05, "--sigma-max", 20, *guidance, *eta, *QUICK)
    fine(verb(*shared, "--workers", 1, "--out", "one"))
    assert "sampled: 11 images, dpm_solver_2m, 2 steps, log 20 to 0.05, eta 0.7 for sigma 0.3 to 30" in fine(
        verb(*shared, "--workers", 2, "--out", "two")
    )
    assert Cohort.load(Path("two")).digest() == Cohort.load(Path("one")).digest()
    assert not Path("two/parts").exists()
    assert "sampled: 11 images" in fine(verb(*shared, "--workers", 2, "--out", "two")), "done before"
    refused(verb(*shared, "--workers", 2, "--out", "two", "--seed", 5), "holds images of another seed")


@pytest.mark.slow
def test_guidance_reaches_the_rows(verb: Medi) -> None:
    options = ("--guidance", "class=1.5", "--guidance", "site=0.5", "--guidance-interval", "0.1,5")
    fine(verb("sample", "m", "plan.csv", "--out", "s", *QUICK, *options))
    assert set(Cohort.load(Path("s")).table["guidance"]) == {"class=1.5, site=0.5 for sigma 0.1 to 5"}
    fine(verb("sample", "m", "plan.csv", "--out", "w", *QUICK, "--autoguidance", "m", "--autoguidance-weight", "0.5"))
    assert set(Cohort.load(Path("w")).table["guidance"]) == {"autoguidance=0.5"}


@pytest.mark.slow
def test_a_classifier_is_trained_and_guides(verb: Medi) -> None:
    table = pd.DataFrame({"sample_id": ["a", "b"], "class": ["LUAD", "LUSC"], "site": "NA", "split": "train"})
    patches = Pixels.of(np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3))
    Cohort(table.assign(patient="p", slide="p"), SCHEMA, patches).save(Path("packed"))
    said = fine(verb("classifier", "packed", "--out", "judge", "--images", 64))
    assert "medi sample MODEL PLAN --classifier judge" in said
    guided = ("--steps", 3, "--batch", 8, "--classifier", "judge")
    fine(verb("sample", "m", "plan.csv", "--out", "s", *guided, "--classifier-weight", "3"))
    assert set(Cohort.load(Path("s")).table["guidance"]) == {"classifier=3"}
    fine(verb("sample", "m", "plan.csv", "--out", "d", *guided))
    assert set(Cohort.load(Path("d")).table["guidance"]) == {"classifier=2"}, "as the help says"
    assert "[default: (2)]" in fine(verb("sample", "-h"))
    fine(verb("sample", "m", "plan.csv", "--out", "b", *guided, "--classifier-weight", "0", "--candidates", 2))
    assert set(Cohort.load(Path("b")).table["guidance"]) == {"best of 2 candidates"}
    refused(verb("sample", "m", "plan.csv", "--out", "t", *QUICK, "--classifier", "plan.csv"), "plan.csv")
    refused(verb("sample", "m", "plan.csv", "--out", "t", *QUICK, "--classifier", "judge"), "would change nothing")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--guidance", "class=much"], "--guidance 'much' is not a number; expected class=1.5"),
        (["--guidance", "stain=1"], "'stain' is no attribute; known: class, site"),
        (["--guidance-interval", "1"], "--guidance-interval '1': expected LOW,HIGH"),
        (["--eta-interval", "1,high"], "--eta-interval 'high' is not a number; expected 0.2,5"),
        (["--shard", "1"], "--shard '1': expected I/N, such as 0/4"),
        (["--shard", "2/2"], "shard 2/2: shards are counted from 0/2 to 1/2"),
        (["--sigma-min", "50"], "0 < sigma_min < sigma_max"),
        (["--shard", "1/0"], "shard 1/0"),
        (["--classifier-weight", "3"], "need a classifier"),
        (["--candidates", "2"], "need a classifier"),
        (["--autoguidance-weight", "3"], "needs both a worse model and a weight"),
        (["--guidance", "class=nan"], "the weights of guidance are finite numbers, not class=nan"),
        (["--solver", "euler"], "solver 'euler' is unknown; known: dpm_solver_2m"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], words: str, verb: Medi) -> None:
    refused(verb("sample", "m", "plan.csv", "--out", "s", *QUICK, *options), words)
    assert not Path("s").exists()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("class,site,n\nLUAD,Mars,1\n", "site 'Mars' (row 0) is unknown; known levels: Asterand, NA, X"),
        ("class,site,n\nLUAD,X:0.5+Mars:0.5,1\n", "level 'Mars' is unknown; known levels: Asterand, NA, X"),
        ("class,n\nLUAD,1\n", "the table lacks the columns site"),
        ("class,site,n\nLUAD,X,some\n", "n = 'some' (row 0) is no count of images"),
        ("class,site,n\nLUAD,X,1\nLUAD,X,1\n", "LUAD x X occurs twice in the plan table"),
    ],
)
def test_wrong_plans_are_refused_before_the_first_image(table: str, words: str, verb: Medi) -> None:
    """P1."""
    Path("wrong.csv").write_text(table)
    refused(verb("sample", "m", "wrong.csv", "--out", "s", *QUICK), words)
    assert not Path("s").exists()


def test_absent_model_or_plan(verb: Medi) -> None:
    refused(verb("sample", "none", "plan.csv"), "none: no such checkpoint; train the model first")
    refused(verb("sample", "m", "none.csv"), "none.csv: no such file")


def test_an_id_that_occurs_twice_is_refused_before_an_image_is_made(verb: Medi) -> None:
    Path("rows.csv").write_text("sample_id,noise_id,class,site\na,1,LUAD,NA\na,2,LUSC,NA\n")
    refused(verb("sample", "m", "rows.csv", "--out", "twice", *QUICK), "sample_id 'a' occurs twice (row 1)")
    assert not Path("twice").exists() or not list(Path("twice").glob("parts/*.npy"))
