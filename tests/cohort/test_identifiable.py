"""Which combinations the seen ones determine: against the affine hull, and in what an audit says."""

import numpy as np
import pandas as pd
import pytest
from numpy.linalg import matrix_rank

import medi
from medi.cohort.audit import Audit, audit
from medi.cohort.identifiable import determined, parts_of
from medi.cohort.schema import Schema
from medi.core.seeds import generator


def hull(seen: np.ndarray) -> np.ndarray:
    """Whether each combination's one-hot vector lies in the affine hull of the seen ones'."""
    classes, levels = seen.shape
    vectors = np.array([[*np.eye(classes)[c], *np.eye(levels)[s], 1.0] for c in range(classes) for s in range(levels)])
    known = vectors[seen.ravel()]
    rank = matrix_rank(known) if len(known) else 0
    return np.array([len(known) > 0 and matrix_rank(np.vstack([known, row])) == rank for row in vectors]).reshape(
        seen.shape
    )


@pytest.mark.parametrize("seed", range(8))
def test_parts_are_the_affine_hull(seed: int) -> None:
    random = generator("identifiable", seed)
    seen = random.random((4, 6)) < (0.1, 0.2, 0.3, 0.5)[seed % 4]
    label, level = (ids.astype(np.int64) for ids in np.nonzero(seen))
    np.testing.assert_array_equal(determined(*parts_of(label, level, 4, 6)), hull(seen))


def test_a_chain_is_one_part_however_long() -> None:
    label, level = np.repeat(np.arange(50), 2)[1:], np.repeat(np.arange(50), 2)[:-1]
    found = parts_of(label[::-1], level[::-1], 50, 50)
    assert determined(*found).all()


def audited(combinations: list[tuple[str, str]]) -> Audit:
    rows = [
        {"class": c, "site": s, "patient": f"{c}{s}{n}", "slide": f"{c}{s}{n}", "sample_id": f"{c}{s}{n}"}
        for c, s in combinations for n in range(6)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    return audit(table, Schema.infer(table, ["site"]))


@pytest.mark.slow
def test_an_audit_says_what_is_determined_and_what_to_collect_first() -> None:
    found = audited([("A", "x"), ("B", "x"), ("A", "y"), ("C", "z")])
    assert found.size["combinations"]["site"] == {"combinations": 9, "empty": 5, "rare": 0, "identifiable": 5}
    empty = found.gaps[found.gaps["kind"] == "empty"].set_index(["class", "level"])["identifiable"]
    assert dict(empty) == {("A", "z"): False, ("B", "y"): True, ("B", "z"): False, ("C", "x"): False, ("C", "y"): False}
    assert found.parts["classes"].tolist() == ["A, B", "C"]
    sentence, valuable = found.composing()
    assert sentence == (
        "class x site: 4 of 5 empty combinations are not determined by the seen ones, which fall into 2 parts that "
        "share neither class nor site. Collect first: one combination of a class of the one part (A, B) with a level "
        "of the other (z) makes it one part and determines 3 more"
    )
    assert valuable == (
        "class x site: of the empty combinations that are determined, B at y is the most valuable to collect; the seen "
        "ones are worth 2.0 patients of it, and 5 patients there lower the mean variance of all such predictions by "
        "71%, as far as class and site add up"
    )
    assert {sentence, valuable} <= set(found.remarks)
    joined = audited([("A", "x"), ("B", "x"), ("A", "y"), ("C", "z"), ("A", "z")])
    assert joined.size["combinations"]["site"]["identifiable"] == 9, "the one collected and the three more"
    assert joined.composing()[0] == (
        "class x site: all 4 empty combinations are determined by the seen ones, as far as class and site add up"
    )
    assert audited([("A", "x"), ("B", "x"), ("A", "y"), ("B", "y")]).composing() == []


def test_one_combination_a_site_leaves_nothing_determined() -> None:
    found = audited([("A", "x"), ("B", "y"), ("C", "z")])
    assert not found.gaps["identifiable"].any()
    assert "6 of 6 empty combinations are not determined" in found.composing()[0]
    assert "joins parts 1 and 2 and determines 1 more" in found.composing()[0]


@pytest.mark.slow
def test_an_audit_comes_back_with_its_parts_and_an_older_one_without(tmp_path) -> None:
    found = audited([("A", "x"), ("B", "y")])
    found.save(tmp_path)
    assert Audit.load(tmp_path).composing() == found.composing() != []
    for name in ("parts", "collect"):
        (tmp_path / f"{name}.parquet").unlink()
    assert (older := Audit.load(tmp_path)).composing() == []
    assert older.collect.empty
    assert medi.phantom(patches=400, seed=0).audit().composing()[0].startswith("class x site: all ")
