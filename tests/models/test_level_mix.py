"""Mixes of levels: a point in one attribute's slice of z_cond; level names come first (P1)."""

import pandas as pd
import pytest
import torch

from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models.denoiser import Denoiser
from medi.models.level_mix import Mix, as_text, condition, read, resolve
from medi.models.network import NetworkSettings

SITE = Attribute("site", levels=("A", "B", "A:1", "B+C", "A:0.5+B:0.5"))


def test_a_mix_moves_its_own_slice_and_nothing_else(denoiser: Denoiser, cohort: Cohort) -> None:
    """z of 0.7 A + 0.3 B is the weighted mean in the site's slice, and bitwise the rows' own z in all others."""
    rows = cohort.table.head(5)
    pure = {level: condition(denoiser, rows.assign(site=level)) for level in "AB"}
    mixed = condition(denoiser, rows.assign(site="A:0.7+B:0.3"))
    first, site, last = torch.split(mixed, denoiser.conditioning.widths, dim=1)
    for level in "AB":
        theirs = torch.split(pure[level], denoiser.conditioning.widths, dim=1)
        assert torch.equal(first, theirs[0])
        assert torch.equal(last, theirs[2])
    table = denoiser.conditioning.embeddings[1].table.weight
    torch.testing.assert_close(site, (0.7 * table[0] + 0.3 * table[1]).expand(5, -1))


def test_mixes_of_several_attributes_and_pure_rows_together(denoiser: Denoiser, cohort: Cohort) -> None:
    rows = cohort.table.head(4).assign(
        site=["A", "A:1+B:1", "B", "B:3+A:1"], **{"class": ["a:1+b:1+c:2", "c", "a", "b:0.5+c:0.5"]}
    )
    z = condition(denoiser, rows)
    classes, sites = (denoiser.conditioning.embeddings[i].table.weight for i in (0, 1))
    widths = denoiser.conditioning.widths
    expected_class = torch.stack(
        [classes[0] / 4 + classes[1] / 4 + classes[2] / 2, classes[2], classes[0], (classes[1] + classes[2]) / 2]
    )
    expected_site = torch.stack([sites[0], (sites[0] + sites[1]) / 2, sites[1], 0.75 * sites[1] + 0.25 * sites[0]])
    torch.testing.assert_close(z[:, : widths[0]], expected_class)
    torch.testing.assert_close(z[:, widths[0] : sum(widths[:2])], expected_site)
    assert torch.equal(z[:, sum(widths[:2]) :], condition(denoiser, rows.assign(site="A"))[:, sum(widths[:2]) :])


def test_a_dropped_mix_is_the_null_vector(denoiser: Denoiser, cohort: Cohort) -> None:
    rows = cohort.table.head(2)
    assert torch.equal(
        condition(denoiser, rows.assign(site="A:0.7+B:0.3"), ["site"]), condition(denoiser, rows, ["site"])
    )


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("A", None),
        ("A:1", None),  # a level that looks like a mix
        ("A:0.5+B:0.5", None),
        ("", None),  # not known
        ("A:0.2+A:0.3+B:.5", [("A", 0.5), ("B", 0.5)]),
        ("A:1+B:3", [("A", 0.25), ("B", 0.75)]),
        ("A:1:1+B:1", [("A:1", 0.5), ("B", 0.5)]),
        ("B+C:2+A:2", [("B+C", 0.5), ("A", 0.5)]),
        ("B:.5+B+C:1.5", [("B", 0.25), ("B+C", 0.75)]),
        ("Z", None),  # left to the schema, which names the known levels
    ],
)
def test_levels_come_first_and_names_may_hold_our_signs(cell: str, parts) -> None:
    found = read(cell, SITE)
    assert (found and found.parts) == parts


def test_typed_mix_and_its_text_are_the_same(denoiser: Denoiser, cohort: Cohort) -> None:
    rows = cohort.table.head(3)
    typed = rows.assign(site=[Mix({"A": 0.25, "B": 0.75})] * 3)
    assert torch.equal(condition(denoiser, typed), condition(denoiser, as_text(typed)))
    assert set(as_text(typed)["site"]) == {"A:0.25+B:0.75"}


def test_unknown_levels_in_a_mix_are_named_with_their_row(schema: Schema, cohort: Cohort) -> None:
    rows = cohort.table.head(3)
    with pytest.raises(MediError, match=r"site 'A:0.5\+Elm:0.5' \(row 2\): level 'Elm' is unknown; known levels: A, B"):
        resolve(rows.assign(site=["A", "B", "A:0.5+Elm:0.5"]), schema)
    with pytest.raises(MediError, match="level 'Elm' is unknown"):
        resolve(rows.assign(site=[Mix({"Elm": 1.0})] * 3), schema)


@pytest.mark.parametrize("shares", [{}, {"A": 0.0}, {"A": -1.0, "B": 2.0}, {"A": float("nan")}])
def test_impossible_shares_are_refused(shares) -> None:
    with pytest.raises(MediError, match="shares from 0 on"):
        Mix(shares)


def test_continuous_attributes_take_the_number_between(tiny: NetworkSettings, cohort: Cohort) -> None:
    """A mix in a column of numbers is refused by the schema, which names the row."""
    torch.manual_seed(0)
    with pytest.raises(MediError, match=r"age .1:0\.5"):
        condition(Denoiser(tiny, cohort.schema), cohort.table.head(1).assign(age="1:0.5+2:0.5"))


def test_rows_without_mixes_are_left_alone(schema: Schema, cohort: Cohort) -> None:
    table, pulls = resolve(cohort.table, schema)
    assert not pulls
    pd.testing.assert_frame_equal(table, cohort.table)
