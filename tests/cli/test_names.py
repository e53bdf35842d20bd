"""Names from metadata that mean something to a terminal, an option or our own tables (P11)."""

from pathlib import Path

import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.cli.result_tables import show_places, show_remedies
from medi.cohort.schema import check_names
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.tables import OWN_COLUMNS, RESULTS

ODD = {"a": "[/b]", "b": "[red]Adenocarcinoma, NOS"}
SITES = {"NA": ":x:", "02": "10 x 10", "X": "two, three"}


@pytest.fixture
def odd(source: Path) -> Path:
    """The table with a comma, brackets and an emoji's name in its levels."""
    table = pd.read_csv(source, dtype=str, keep_default_na=False)
    table["label"], table["site"] = table["label"].map(ODD), table["site"].map(SITES)
    table.rename(columns={"site": "[/i]"}).to_csv(source, index=False)
    return source


@pytest.mark.slow
def test_names_are_shown_as_they_are_written_p11(medi: Medi, odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = fine(medi("audit", odd, "--attributes", "[/i]", "--out", "a"))
    assert "[/i]" in shown
    shown = fine(medi("holdout", "a", "--held", "[/b] x :x:", "--out", "h"))
    assert "held out: [/b] x :x:" in shown
    assert "images over class, [/i]" in fine(medi("plan", "h", "--to", "9", "--out", "p"))
    row = {"scope": "combination", "class": "[/b]", "[/i]": ":x:", "split": "", "arm": "[/m]"}
    show_places(pd.DataFrame([row | {"value": 1.0, "n_real": 4, "reason": "[/r]"}]), ["class", "[/i]"], "[/t]")
    place = {"arm": "[/m]", "needs": "[/n]", "value": 1.0, "low": 0.5, "high": 1.0, "unseen": 1.0, "seen": 1.0}
    none = {"low": None, "high": None, "seen": None}  # as results.json has it where nothing seen is tested
    show_remedies(pd.DataFrame([place | none | {"worst_five": 1.0, "reason": ""}]), "[/t]")
    printed = capsys.readouterr().out
    assert not [text for text in ("[/b]", "[/i]", ":x:", "[/m]", "[/r]", "[/t]", "[/n]") if text not in printed]


@pytest.mark.slow
def test_a_level_with_a_comma_can_be_given_in_every_list(medi: Medi, odd: Path) -> None:
    classes = '"[red]Adenocarcinoma, NOS",[/b]'
    fine(medi("holdout", odd, "--attributes", "[/i]", "--classes", classes, "--rate", "0.2", "--out", "h"))
    assert set(Cohort.load("h").table["class"]) == set(ODD.values())
    refused(medi("audit", odd, "--classes", '"[red]Adeno,[/b]'), "a quote is not closed")
    fine(medi("holdout", odd, "--attributes", "[/i]", "--held", '[/b] x "10 x 10"', "--out", "h2"))
    fine(medi("plan", "h2", "--wanted", '[/b] x "10 x 10"', "-n", "3", "--out", "p2"))
    assert set(pd.read_parquet("p2/rows.parquet")["[/i]"]) == {"10 x 10"}


@pytest.mark.slow
def test_names_of_our_own_columns_are_refused_and_read_under_another(medi: Medi, source: Path) -> None:
    text = source.read_text()
    for taken in ("arm", "n", "request", "scope", "count", "value", "source"):
        source.write_text(text.replace(",site", f",{taken}"))
        refused(
            medi("audit", source, "--attributes", taken), f"attribute '{taken}'", f"--attributes 'my_{taken}={taken}'"
        )
    fine(
        medi("holdout", source, "--attributes", "centre=source", "--missing", "source=X", "--rate", "0.2", "--out", "h")
    )
    cohort = Cohort.load("h")
    assert cohort.schema.attribute("centre").levels == ("02", "NA")
    assert "source" not in cohort.table
    refused(medi("audit", source, "--attributes", "patient=source"), "'patient' has the name of another column")
    refused(medi("audit", source, "--attributes", "centre=sourse"), "no column centre=sourse")


def test_a_cohort_that_was_read_before_is_refused_where_its_figures_would_be_others(medi: Medi, folders: Path) -> None:
    real = Cohort.load(folders / "real")
    head = real.schema.to_dict()
    head["attributes"][0]["name"] = "scope"
    table = real.table.rename(columns={"site": "scope"})
    Cohort(table, type(real.schema).from_dict(head), real.pixels).save("old")
    refused(medi("utility", "old", "--over", "class,scope"), "attribute 'scope' has the name")
    refused(medi("plan", "old", "--to", "9"), "attribute 'scope' has the name")


def test_a_set_is_not_called_like_an_attribute(medi: Medi, folders: Path) -> None:
    given = (folders / "real", f"site={folders / 'good'}", "--over", "class,site")
    refused(medi("fidelity", *given), "the name 'site' is that of a column")
    refused(medi("utility", *given), "the name 'site' is that of a column")


def test_every_column_of_a_result_table_is_taken() -> None:
    assert {name for table in RESULTS.values() for name in (*table.text, *table.numbers)} <= OWN_COLUMNS
    for name in sorted(OWN_COLUMNS):
        with pytest.raises(MediError, match="our own tables"):
            check_names([name])
    check_names(["site", "group", "scanner", "hospital"])


@pytest.mark.slow
def test_a_column_that_is_not_there_is_not_missing_in_silence(medi: Medi, source: Path) -> None:
    refused(medi("audit", source, "--missing", "sitee=X"), "no column 'sitee'", "did you mean 'site'?")
    refused(medi("audit", source, "--attributes", "sites"), "no column sites", "did you mean 'site'?")
    fine(medi("audit", source, "--attributes", "site", "--missing", "label=a", "--out", "a"))
    assert (Cohort.load("a").schema.classes.missing) == ("", "a"), "the class goes by the name of its column too"
