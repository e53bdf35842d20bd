"""Noise is no remedy: it moves a classifier that is below chance towards chance, and is no gain (P13)."""

import numpy as np
import pytest

import medi
from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core.seeds import generator
from medi.evaluation.classify.noise import NOISE, noise_arm
from medi.evaluation.encoders import encoder
from medi.report.verdict import judge

CLASSES, SITES = phantom.CLASSES[:2], phantom.SITES[:4]
OVER = ["class", "site"]


@pytest.fixture(scope="module")
def confounded() -> Cohort:
    """Two classes at four sites: two sites show one class alone, the other class of them is tested."""
    cohort = phantom.fresh([(c, s) for c in CLASSES for s in SITES], 60, 0, "confounded", patches_per_slide=6)
    table = cohort.table
    gone = (table["class"].eq(CLASSES[0]) & table["site"].isin(SITES[:2])) | (
        table["class"].eq(CLASSES[1]) & table["site"].isin(SITES[2:])
    )
    even = table["patient"].isin(sorted(set(table["patient"]))[::2])
    split = np.where(even, np.where(gone, "test_unseen", "test_seen"), np.where(gone, "reserve", "train"))
    return cohort.with_columns(split=split)


def noise(like: Cohort) -> Cohort:
    pixels = generator("a cohort of noise").integers(0, 256, (len(like), 32, 32, 3), dtype=np.uint8)
    table = like.table.assign(sample_id="n" + like.table["sample_id"], patient="", slide="", origin="noise")
    return Cohort(table.drop(columns="split"), like.schema, Pixels.of(pixels))


@pytest.mark.slow
def test_noise_below_chance_is_no_gain(confounded: Cohort) -> None:
    """Fault: a cohort of coloured static was called a gain where real images alone are below chance."""
    found = medi.utility(confounded, static=noise(confounded), over=OVER, arms="none")
    rows = found.tables["utility"].query("metric == 'mean_recall' and scope == 'all'").set_index(["arm", "split"])
    assert rows.loc[("real", "unseen"), "value"] < 0.5, "below chance, so that noise seems to help"
    (judged,) = judge(found.tables["utility"])
    assert not judged.gains
    assert "not above pure noise" in judged.refused
    assert "No gain is claimed for static" in found.title


@pytest.mark.slow
def test_a_rule_that_sees_the_site_alone_gets_chance_on_the_primary_endpoint(confounded: Cohort) -> None:
    """STATISTICS: 1 / K whatever the rule; on unseen combinations alone the reversed rule is always right."""
    found = medi.utility(confounded, over=OVER, arms="none").tables["utility"]
    chance = found[(found["metric"] == "chance") & (found["split"] == "all")]["value"].item()
    assert chance == 0.5
    tests = confounded.where(split="test_seen").table, confounded.where(split="test_unseen").table
    rule = {site: CLASSES[site in SITES[2:]] for site in SITES}  # the class that training lacks there
    recalls = [
        (part["site"].map(rule) == part["class"]).groupby([part["class"], part["site"]]).mean() for part in tests
    ]
    assert recalls[1].mean() == 1.0
    assert np.mean([*recalls[0], *recalls[1]]) == chance


def test_noise_stands_in_for_every_synthetic_row(confounded: Cohort) -> None:
    """P3: the same pixels whatever the batch; labels are those of the rows that it replaces."""
    train = confounded.where(split="train")
    real = medi.embed(train)
    arm = noise_arm(real, real.take(np.arange(40)), train, encoder("colour-texture"), seed=3)
    again = noise_arm(real, real.take(np.arange(40)), train, encoder("colour-texture"), seed=3)
    assert arm.name == NOISE
    assert len(arm.rows) == len(real) + 40
    assert arm.table["class"].iloc[-40:].tolist() == real.table["class"].iloc[:40].tolist()
    np.testing.assert_array_equal(arm.embeddings, again.embeddings)
    assert (arm.embeddings[-40:].std(axis=0) < real.features.std(axis=0)).mean() > 0.8, "noise is all alike"
