"""What several sections say alike: a figure in words, image counts, splits as axes, values with their intervals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from medi.core.claims import of_no_combination
from medi.figures import Axis
from medi.figures.names import DASH, arm_name, in_order, interval, known, metric_name, number, split_title, splits_of
from medi.report.parts import Entry

Rows = pd.DataFrame


def split_axes(
    rows: Rows, label: str, line: float | Mapping[str, float] | None = None, line_name: str = ""
) -> list[Axis]:
    """An axis per split; line: a value to compare with, the same on all or one by split."""
    lines = line if isinstance(line, Mapping) else dict.fromkeys(rows["split"], line)
    return [Axis(split, split_title(split), label, lines.get(split), line_name) for split in splits_of(rows["split"])]


def each_n(rows: Rows) -> str:
    """'n = 150 real and 150 synthetic images each', or their ranges."""
    texts = []
    for column, what in (("n_real", "real"), ("n_synthetic", "synthetic")):
        counts = rows.loc[rows["arm"] != "floor", column].dropna()
        if len(counts) and counts.max() > 0:
            low, high = number(counts.min()), number(counts.max())
            texts.append(f"{low} {what}" if low == high else f"{low} to {high} {what}")
    return f"n = {' and '.join(texts)} images each." if texts else ""


def left_out(rows: Rows) -> list[str]:
    """How many patches belong to no combination, as the reasons of means over combinations have it: a sentence each."""
    return [f"{text}; means over combinations leave them out." for text in of_no_combination(rows.get("reason", []))]


def spoken(rows: Rows, by: str, what: str, called: Callable[[str], str] = arm_name) -> str:
    """The figure in words: the mean of every arm in every group."""
    groups = [
        f"{metric_name(str(group)) or 'all'}: {_values(part, called)}" for group, part in rows.groupby(by, sort=False)
    ]
    return f"{what}. {'; '.join(groups)}."


def _values(rows: Rows, called: Callable[[str], str]) -> str:
    means = rows.groupby("arm")["value"].mean()
    return ", ".join(f"{called(arm)} {number(means[arm])}" for arm in in_order(rows["arm"]))


def with_interval(row: Any, write: Callable[[Any], str] = "{:.3f}".format) -> Entry:
    """The value with its interval as it is read, alone as it is sorted; undefined with its reason (P7)."""
    if not known(row.value):
        return Entry(f"{DASH} ({row.reason})" if row.reason else DASH, "", True)
    return Entry(f"{write(row.value)}{interval(row.low, row.high, write)}", str(row.value), True)


def measures(rows: Rows, metrics: Sequence[str]) -> Rows:
    """One line per arm, a column per metric, each value with its interval."""
    lines = []
    for arm in dict.fromkeys(rows["arm"]):
        line: dict[str, Any] = {"arm": arm_name(str(arm))}
        for row in rows[rows["arm"] == arm].itertuples():
            line.setdefault(metric_name(str(row.metric)), with_interval(row, "{:.2f}".format))
        lines.append(line)
    return Rows(lines).reindex(columns=["arm", *map(metric_name, metrics)]).astype(object).fillna("")
