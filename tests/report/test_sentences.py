"""The three sentences follow the numbers: also where MeDi loses, nothing is known, or an interval includes zero."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated import CLASSES, SITES, Fabricate

from medi.core.files import read_json, write_json
from medi.core.tables import upgraded
from medi.report.run import Results, read
from medi.report.sentences import choice, distance, limits, summary

EMPTY = pd.DataFrame()


def results(medi: float | None = 6.0, accuracy: float | None = 0.84, gap: float | None = 0.94, **more: Any) -> Results:
    return Results.of(content(medi, accuracy, gap) | more)


def content(medi: float | None = 6.0, accuracy: float | None = 0.84, gap: float | None = 0.94) -> dict[str, Any]:
    return {
        "frechet": {
            "seen": {"floor": 2.8, "cls": 68.0, "medi": 5.0},
            "unseen": {"floor": 3.0, "cls": 90.0, "medi": medi},
        },
        "balanced_accuracy": {
            "seen": {"real": 0.90, "cls": 0.88, "medi": 0.91, "oracle": 0.93},
            "unseen": {"real": 0.54, "cls": 0.44, "medi": accuracy, "oracle": 0.86},
        },
        "gap_closed": gap,
    }


def fidelity(*cells: tuple[str, float, float], mean: tuple[float, float] | None = None) -> pd.DataFrame:
    """Rows of held-out combinations (class, CLS, MeDi) at site Duke, and the interval of the mean difference."""
    rows = [
        ("frechet", arm, "combination", name, "Duke", "unseen", value, np.nan, np.nan, "")
        for name, cls, medi in cells
        for arm, value in (("cls", cls), ("medi", medi))
    ]
    if mean:
        rows.append(("frechet_difference", "cls - medi", "combination_mean", "", "", "unseen", 1.0, *mean, ""))
    columns = ["metric", "arm", "scope", "class", "site", "split", "value", "low", "high", "reason"]
    return upgraded(pd.DataFrame(rows, columns=columns))


def utility(*rows: tuple[str, str, str, float, float, float, str]) -> pd.DataFrame:
    """Rows (metric, arm, class, value, low, high, reason) on unseen combinations."""
    table = pd.DataFrame(rows, columns=["metric", "arm", "class", "value", "low", "high", "reason"])
    scopes = ["class" if name else "all" for name in table["class"]]
    return upgraded(table.assign(split="unseen", site="", scope=scopes, panel="inductive"))


def test_medi_closer() -> None:
    text = distance(results(), EMPTY, "site")
    assert "MeDi’s images are closer to real ones than CLS’s" in text
    assert "is 6 for MeDi and 90 for CLS" in text
    assert "2 times this floor" in text
    assert "3 % of CLS’s excess" in text  # (6 - 3) / (90 - 3)


def test_medi_farther() -> None:
    text = distance(results(medi=120.0), EMPTY, "site")
    assert "MeDi’s images are farther from real ones than CLS’s" in text
    assert "40 times this floor" in text


def test_the_closer_combinations_are_counted() -> None:
    table = fidelity(("COAD", 90, 6), ("LUAD", 80, 95), ("LUSC", np.nan, 5))
    assert "MeDi is closer in 1 of the 2 unseen combinations that are measured." in distance(results(), table, "site")
    text = distance(results(), table, "site", {("LUAD", "Duke"), ("LUSC", "Duke")})
    assert "of the 2 unseen combinations that are measured (1 held out, 1 that the cohort lacks)." in text
    assert "no closer than CLS in 1 of 2 combinations (LUAD at Duke)" in limits(results(), table, EMPTY, "site")


@pytest.mark.parametrize(("mean", "sure"), [((2.0, 9.0), True), ((-9.0, -2.0), True), ((-1.0, 3.0), False)])
def test_an_interval_around_zero_takes_the_certainty(mean: tuple[float, float], sure: bool) -> None:
    text = distance(results(), fidelity(("COAD", 90, 6), mean=mean), "site")
    assert "MeDi’s images are closer to real ones than CLS’s" in text
    assert ("but not for certain" in text) == (not sure)


def test_unknown_distances_are_said() -> None:
    """P7: no verdict from a number that is not there; the reason is the table's."""
    table = fidelity(("COAD", np.nan, np.nan)).assign(reason="medi has 1 image")
    assert distance(results(medi=None), table, "site").endswith("is not known (medi has 1 image).")
    assert distance(Results(), EMPTY, "site").endswith("is not known (this stage has not run).")


def test_limits_name_what_is_negative() -> None:
    numbers = content() | {"phantom": "9f31"}
    numbers["balanced_accuracy"]["seen"]["medi"] = 0.85
    numbers["frechet"]["seen"]["medi"] = 11.7
    table = utility(*(("recall", arm, "LUSC", value, 0, 1, "") for arm, value in (("real", 0.5), ("medi", 0.3))))
    text = limits(Results.of(numbers), EMPTY, table, "site")
    assert "lower balanced accuracy from 0.900 to 0.850" in text
    assert "on seen combinations (11.7)" in text
    assert "recall on unseen combinations falls for LUSC" in text
    assert "nothing here speaks for real tissue" in text


def test_limits_are_never_empty_and_never_invented() -> None:
    text = limits(results(), EMPTY, EMPTY, "site")
    assert "Each model was trained once" in text
    assert "lower" not in text
    assert "real tissue" not in text


def test_undefined_distances_are_counted() -> None:
    table = fidelity(("COAD", 90, 6), ("LUAD", 80, np.nan))
    assert "MeDi’s distance is undefined in 1 of 2 combinations" in limits(results(), table, EMPTY, "site")


FIRED = "collapse guard: medi's recall 0.31 is below floor's 0.90, 'closer' is withheld"


def test_a_guard_that_fired_withholds_closer() -> None:
    """P13: a distance that is low because images are alike is no success: the verdict is withheld, not the numbers."""
    table = fidelity(("COAD", 90, 6), mean=(2.0, 9.0))
    fired = table.assign(reason=np.where(table["scope"] == "combination_mean", "n <= d; " + FIRED, ""))
    text = distance(results(), fired, "site")
    assert text.endswith("is not said, as MeDi’s recall 0.31 is below that of real images, 0.90.")
    assert "images are closer" not in text
    assert "6" in text
    assert "90" in text
    one = table.assign(reason=np.where(table["scope"] == "combination", FIRED, ""))
    assert "are closer" in distance(results(), one, "site")  # one combination does not withhold the whole


def test_copies_and_images_not_as_asked_are_limits() -> None:
    copying = pd.DataFrame(
        [("copy_rate", "medi", 0.08, 0.06, 0.1, "")], columns=["metric", "arm", "value", "low", "high", "reason"]
    )
    rows = [
        (arm, a, v)
        for arm, values in {"real": (0.9, 0.9), "medi": (0.89, 0.6)}.items()
        for a, v in zip(("class", "site"), values)
    ]
    control = pd.DataFrame(rows, columns=["arm", "attribute", "value"]).assign(
        metric="as_asked", scope="all", split="unseen"
    )
    text = limits(results(), EMPTY, EMPTY, "site", control, copying)
    assert (
        "8 % [6 %, 10 %] of MeDi’s images count as copies of training patches (1 % is expected of fresh real images)"
        in text
    )
    assert "a probe recognises the site in 60 % (90 % in real ones)" in text
    assert "the class in" not in text
    fine = limits(results(), EMPTY, EMPTY, "site", control.assign(value=0.9), copying.assign(low=0.005))
    assert "copies" not in fine
    assert "recognises" not in fine


def test_several_trainings_are_not_called_one() -> None:
    assert "trained once" not in limits(results(seeds=[0, 1, 2]), EMPTY, EMPTY, "site")


@pytest.mark.slow
def test_the_verdict_comes_first_and_the_limits_last(fabricate: Fabricate) -> None:
    sentences = summary(read(fabricate(classes=CLASSES[:2], sites=SITES[:2])))
    assert sentences[0].startswith("MeDi is a gain")
    assert "Fréchet distance" in sentences[-2]
    assert sentences[-1].startswith("Limits: ")
    for text in sentences:
        assert text.endswith(".")
        assert "nan" not in text
        assert "None" not in text


@pytest.mark.slow
def test_a_table_that_is_lost_is_said_first(fabricate: Fabricate) -> None:
    """P15: a report of what is left looks like a report of everything."""
    run = fabricate(classes=CLASSES[:2], sites=SITES[:2])
    content = read_json(run / "results.json")
    content["seconds"]["tables/utility.parquet"] = 3.0
    write_json(run / "results.json", content)
    assert "missing" not in summary(read(run))[0]
    (run / "tables" / "utility.parquet").unlink()
    said = summary(read(run))
    assert said[0].startswith("Parts of this run are missing: tables/utility.parquet. `medi run`")
    assert said[1] == "Whether a classifier gains is not known: no classifier has been trained yet."


def test_the_page_opens_with_the_remedy_that_training_chose() -> None:
    rows = [("macenko", "crm", 0.8, 0.1, 0.05, 0.15, 0.75), ("real", "logistic", 0.7, 0.0, 0.0, 0.0, 0.7)]
    table = pd.DataFrame(rows, columns=["set", "head", "value", "gain", "gain_low", "gain_high", "true"])
    first, regret = choice(table.assign(reason=""))
    assert first.startswith("Recommended: images after Macenko normalisation under the head CRM. Mean recall on")
    assert regret.startswith("Regret on the true hold-out: 0.000; under the usual head always: real images 0.050.")
    (none, regret) = choice(table.assign(reason="", gain_low=-0.1))
    assert none.startswith("No remedy is worth it: the best one, images after Macenko normalisation")
    usual = choice(table.iloc[1:].assign(reason="", true=float("nan")))
    assert len(usual) == 1, "the hold-out stays closed"
    assert usual[0].startswith("No remedy is worth it: real images under the usual head are the best on")
    assert regret.startswith("Regret on the true hold-out: 0.050;"), "the real images under the usual head are kept"
    assert choice(pd.DataFrame()) == []
