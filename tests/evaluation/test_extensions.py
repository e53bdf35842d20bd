"""What a user adds by one call: an encoder, an arm, a metric; each example is what CONTRIBUTING shows."""

from collections.abc import Iterator

import numpy as np
import pytest

import medi
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.core.registry import REGISTRIES
from medi.evaluation.classify.arms import Arm, Material
from medi.evaluation.encoders import Encoder, available

CELLS = [(c, s) for c in phantom.CLASSES[:2] for s in phantom.SITES[:2]]
OVER = ("class", "site")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test registers is gone after it."""
    kept = {kind: dict(found.things) for kind, found in REGISTRIES.items()}
    yield
    for kind, things in kept.items():
        REGISTRIES[kind].things = things


@pytest.fixture(scope="module")
def real() -> Cohort:
    cohort = phantom.fresh(CELLS, 20, seed=0, stream="extended", patches_per_slide=4)
    odd = cohort.table["patient"].isin(sorted(set(cohort.table["patient"]))[::2])
    return cohort.with_columns(split=odd.map({True: "test_seen", False: "train"}))


def test_an_encoder_of_the_users(real: Cohort) -> None:
    @medi.register("encoder", "mean-colour")
    def mean_colour(path: str, precision: str) -> Encoder:
        def extract(images: np.ndarray) -> np.ndarray:
            return images.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)

        return Encoder("mean-colour", dimension=3, smallest=1, licence="CC0", hash="mean-colour-1", extract=extract)

    assert medi.embed(real, encoder="mean-colour").features.shape == (80, 3)
    assert ("mean-colour", True, "") in available()
    with pytest.raises(medi.MediError, match=r"encoder 'mean-color' is unknown.*did you mean 'mean-colour'"):
        medi.embed(real, encoder="mean-color")
    with pytest.raises(medi.MediError, match="encoder 'uni' is there already"):
        medi.register("encoder", "uni")(mean_colour)


@pytest.mark.slow
def test_an_arm_of_the_users(real: Cohort) -> None:
    @medi.register("arm", "every_second")
    def every_second(material: Material) -> Arm:
        return Arm("every_second", material.real.take(np.arange(0, len(material.real), 2)))

    found = medi.utility(real, over=OVER, arms=["every_second"])
    assert found.to_frame()["arm"].tolist() == ["real", "every_second", "chance"]
    table = found.tables["utility"]
    overall = (table["metric"] == "balanced_accuracy") & (table["scope"] == "all") & (table["split"] == "all")
    rows = table[overall].set_index("arm")
    assert rows.loc["every_second", "n_train"] * 2 == rows.loc["real", "n_train"]


@pytest.mark.slow
def test_a_metric_of_the_users(real: Cohort) -> None:
    @medi.register("metric", "mean_shift")
    def mean_shift(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0)))

    made = phantom.fresh(CELLS, 8, 1, "made")
    table = medi.fidelity(real, made=made, over=OVER, n=8, draws=0).tables["fidelity"]
    rows = table[table["metric"] == "mean_shift"]
    assert set(rows["scope"]) == {"combination", "combination_mean", "class", "class_mean", "site", "site_mean"}
    measured = rows[~rows["scope"].str.endswith("_mean")]  # means are of places with a distance, which 8 images lack
    assert (measured["value"] > 0).all()


@pytest.mark.slow
def test_a_metric_that_fails_is_named_and_one_that_is_undefined_has_a_reason(real: Cohort) -> None:
    """P7."""
    medi.register("metric", "nothing")(lambda x, y: float("nan"))
    table = medi.fidelity(real, over=["class"], n=8, draws=0).tables["fidelity"]
    rows = table[(table["metric"] == "nothing") & (table["scope"] == "combination")]
    assert rows["value"].isna().all()
    assert rows["reason"].str.contains("nothing is undefined here").all()
    medi.register("metric", "broken")(lambda x, y: x @ y)
    with pytest.raises(medi.MediError, match=r"metric broken: failed on features \[8, 67\] and \[8, 67\]"):
        medi.fidelity(real, over=["class"], n=8, draws=0)
