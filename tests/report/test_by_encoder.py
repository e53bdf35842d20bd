"""Figures in the features of further encoders stand beside those of the first, and never in their place."""

from pathlib import Path

import pandas as pd
import pytest
from fabricated import Fabricate, write_more

from medi.core.files import read_table
from medi.core.tables import BY_ENCODER, CONTROL, FIDELITY, UTILITY
from medi.report.page import build
from medi.report.run import Run, read
from medi.report.sections.by_encoder import asked_by_encoder, recall_by_encoder, spoken_by_encoder
from medi.report.sentences import summary

SECOND = "imagenet 0123456789abcdef"


@pytest.fixture
def folder(fabricate: Fabricate) -> Path:
    return write_more(fabricate())


def with_second(folder: Path, shift: float = -0.1) -> Run:
    """The run with a second encoder, whose values are those of the first and `shift` more."""
    tables = folder / "tables"
    rows = [kind.read(tables).query("metric in ('as_asked', 'mean_recall')") for kind in (CONTROL, UTILITY)]
    both = pd.concat(rows, ignore_index=True).assign(encoder=SECOND)
    both["value"] += shift
    texts = [name for name in both if not pd.api.types.is_numeric_dtype(both[name])]
    BY_ENCODER.write(tables, both.fillna(dict.fromkeys(texts, "")))
    first = FIDELITY.read(tables)
    FIDELITY.write(tables, pd.concat([first, first.assign(encoder=SECOND)], ignore_index=True))
    return read(folder)


def cells(table: object, encoder: str, *names: str) -> list[str]:
    """The texts of the line of an encoder that starts with these names."""
    assert table is not None
    lines = [[entry.text for entry in row] for row in table.rows]  # type: ignore[attr-defined]
    (found,) = [line for line in lines if line[: 1 + len(names)] == [encoder, *names]]
    return found[1 + len(names) :]


def test_a_study_of_one_encoder_says_nothing_of_others(folder: Path) -> None:
    run = read(folder)
    assert asked_by_encoder(run) is None
    assert recall_by_encoder(run) is None
    assert spoken_by_encoder(run.by_encoder, run.fidelity) == []


@pytest.mark.slow
def test_recall_stands_for_both_encoders(folder: Path) -> None:
    table = recall_by_encoder(with_second(folder))
    first, second = cells(table, "colour-texture", "all"), cells(table, "imagenet", "all")
    assert "0.87" in first
    assert "0.77" in second
    assert table is not None
    assert "class weights" not in str(table.columns), "sets of the second encoder alone are compared"


@pytest.mark.slow
def test_shares_as_asked_stand_for_both_encoders(folder: Path) -> None:
    table = asked_by_encoder(with_second(folder))
    first, second = (cells(table, name, "class", "unseen") for name in ("colour-texture", "imagenet"))
    assert [float(text) for text in second] == pytest.approx([float(text) - 0.1 for text in first], abs=0.006)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.usefixtures("no_pictures")
def test_the_page_says_both_and_the_verdict_stays(folder: Path) -> None:
    before = summary(read(folder))
    after = summary(with_second(folder))
    assert [text for text in after if not text.startswith("In the features of imagenet")] == before
    (said,) = set(after) - set(before)
    assert "Mean recall over all combinations is 0.77 with MeDi, 0.58 with real images alone." in said
    page = build(folder).read_text()
    assert "As asked, by each encoder" in page
    assert "Mean recall over all combinations, by each encoder" in page
    assert len(read_table(folder / "tables" / "by_encoder.parquet")) > 0
