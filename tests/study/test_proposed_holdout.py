"""The hold-out of a study file that medi proposes: it can be tested, and leaves enough to train on."""

import numpy as np
import pandas as pd
import pytest

from medi.cohort.holdout import design
from medi.cohort.rule import Rule
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.study.proposed_holdout import choose, holdout_for


def cohort(classes: int, sites: int, patients: int, per_combination: int = 12, mixed: bool = False) -> Cohort:
    """As many patches in every combination; mixed: every patient has patches of all of them."""
    rows = [(f"c{c}", f"s{s}", i) for c in range(classes) for s in range(sites) for i in range(per_combination)]
    table = pd.DataFrame(rows, columns=["class", "site", "i"])
    who = np.arange(len(table)) % patients if mixed else table["i"] % patients
    names = table["class"] + table["site"] if not mixed else pd.Series("", table.index)
    people = [f"{name}p{i}" for name, i in zip(names, who)]
    table = table.assign(patient=people, slide=people, sample_id=[f"x{i}" for i in range(len(table))])
    return Cohort(table, Schema.infer(table, ["site"]))


@pytest.mark.parametrize(("classes", "sites"), [(2, 3), (4, 3), (3, 2), (5, 8)])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_class_is_tested_where_it_was_not_trained(classes: int, sites: int, mixed: bool) -> None:
    found = cohort(classes, sites, patients=7, mixed=mixed)
    asked = holdout_for(found, "site")
    rule = Rule(over=("class", "site"), **(asked | {"held": tuple(map(tuple, asked["held"]))}))
    split = design(found.table, found.schema, rule, 0).split.to_numpy()
    assert asked.get("set_aside", False) is mixed
    assert (split == "train").mean() >= 0.25
    assert found.table["class"][split == "test_unseen"].nunique() == min(classes, max(2, round(0.3 * classes * sites)))
    assert found.table["class"][split == "train"].nunique() == classes
    assert found.table["site"][split == "train"].nunique() == sites


def test_many_combinations_are_drawn_and_not_listed() -> None:
    asked = holdout_for(cohort(5, 20, patients=3, per_combination=3), "site")
    assert "held" not in asked
    assert asked["rate"] == 0.3


def test_a_cohort_of_one_class_has_nothing_to_hold_out() -> None:
    with pytest.raises(MediError, match=r"only one class \(c0\): nothing to hold out"):
        holdout_for(cohort(1, 3, patients=5), "site")


def test_classes_keep_patches_on_both_sides() -> None:
    """A combination of five patches would say little about its class."""
    counts = {("a", "x"): 100, ("a", "y"): 5, ("a", "z"): 40, ("b", "x"): 30, ("b", "y"): 30, ("b", "z"): 30}
    held = choose(counts)
    assert {name for name, _ in held} == {"a", "b"}
    assert ("a", "y") not in held
    assert held == choose(counts), "the same every time"
