"""The report's table of an encoder's robustness: before and after each remedy that moves embeddings."""

import pandas as pd
from fabricated import Fabricate

from medi.core.files import read_json, write_json, write_table
from medi.core.tables import UTILITY
from medi.report import run as runs
from medi.report.sections.cohort import audit
from medi.report.sections.robustness import TITLE, robustness_tables


def test_each_space_and_each_published_encoder_is_a_row_and_what_is_undefined_says_why(fabricate: Fabricate) -> None:
    folder = fabricate()
    assert robustness_tables(runs.read(folder)) == [], "an older run has no such figures"
    old = UTILITY.read(folder / "tables")
    given = {("real", "ri"): 0.4, ("macenko", "ri"): 0.6, ("real", "ri_support"): 0.9, ("real", "croma"): float("nan")}
    more = pd.DataFrame(
        [
            old.iloc[0].to_dict()
            | {"arm": arm, "against": "", "metric": metric, "scope": "all", "split": "", "value": value}
            | {"reason": "CRoMa is refused" if metric == "croma" else ""}
            for (arm, metric), value in given.items()
        ]
    )
    write_table(folder / "tables" / "utility.parquet", pd.concat([old, more], ignore_index=True))
    first, readings = robustness_tables(runs.read(folder))
    assert first.title == TITLE
    rows = [[cell.text for cell in row] for row in first.rows]
    assert [row[0] for row in rows] == [
        "as it is",
        "Macenko normalisation",
        *(f"{n} on TCGA-4x4" for n in ("DINOv2-B", "UNI", "Virchow2")),
    ]
    assert rows[0][first.columns.index("RI")] == "0.4"
    assert rows[0][first.columns.index("CRoMa, median")] == "–"
    assert rows[0][first.columns.index("note")] == "CRoMa is refused"
    assert rows[3][first.columns.index("CRoMa, median")] == "0.047"
    assert len(readings.rows) == 8


def test_the_report_says_which_empty_combinations_are_determined(fabricate: Fabricate) -> None:
    """Of the cohort, and of the training patches after the hold-out; runs of version 0.1 say nothing of it."""
    folder = fabricate()
    assert not any("determined" in text for text in audit(runs.read(folder)).text)
    site = {"combinations": 4, "empty": 2, "rare": 0, "identifiable": 2}
    parts = [
        {
            "attribute": "site",
            "part": n,
            "classes": c,
            "levels": s,
            "level_count": 1,
            "class_count": 1,
            "seen": 1,
            "empty": 0,
        }
        for n, c, s in ((1, "A", "x"), (2, "B", "y"))
    ]
    for name in ("audit", "audit-training"):
        content = read_json(folder / "audit" / "audit.json")
        content["size"]["combinations"], content["parts"] = {"site": site}, parts
        write_json(folder / name / "audit.json", content)
    told = [text for text in audit(runs.read(folder)).text if "determined" in text]
    what = "class x site: 2 of 2 empty combinations are not determined by the seen ones"
    assert told[0].startswith(what)
    assert told[1].startswith(f"In the training patches, {what}")
