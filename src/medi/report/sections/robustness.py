"""Does the encoder see the class or the site, before and after each remedy that moves embeddings?"""

from typing import Any

import pandas as pd

from medi.core.reference_points import READING, TCGA_4X4
from medi.figures.names import in_order, metric_name, number
from medi.report.parts import Table, entry, table_of
from medi.report.remedies import called
from medi.report.run import Run, pick
from medi.report.sections.words import with_interval

INDEX = "robustness_index"
SHOWN = (INDEX, "ri", "ri_support", "mari", "mari_support", "croma", "croma_worst_tenth", "croma_below_zero")
BEFORE = "as it is"
TITLE = "Does the encoder see the class or the site?"


def robustness_tables(run: Run) -> list[Table]:
    """A row per space of embeddings and per published encoder, and how each figure is read; none in older runs."""
    rows = pick(run.utility, metric=SHOWN, scope="all")
    if pick(rows, metric="ri").empty:
        return []
    lines = [_line(rows[rows["arm"] == arm], _named(arm)) for arm in in_order(rows["arm"])]
    lines += [{"embeddings": f"{name} on TCGA-4x4", **values} for name, values in TCGA_4X4.items()]
    shown = pd.DataFrame(lines).reindex(columns=["embeddings", *SHOWN, "note"]).astype(object)
    readings = pd.DataFrame([{"figure": metric_name(name), "reading": READING[name]} for name in SHOWN])
    return [
        table_of(TITLE, shown.where(shown.notna(), "")),
        table_of("How the figures of robustness are read", readings, open=False),
    ]


def _named(arm: str) -> str:
    return BEFORE if arm == "real" else called(arm)


def _line(rows: pd.DataFrame, name: str) -> dict[str, Any]:
    """The figures of one space, an undefined one as a dash, and why it is undefined."""
    line: dict[str, Any] = {"embeddings": name}
    for row in rows.itertuples():
        text = with_interval(row) if row.metric == INDEX else entry(number(row.value))
        line[str(row.metric)] = text
    line["note"] = "; ".join(dict.fromkeys(reason for reason in rows["reason"] if reason))
    return line
