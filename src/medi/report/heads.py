"""Training sets under several heads: one table of sets by heads, and what may be said of a generated set.

No set and no head is called the best: a head is chosen by combinations of training that were left out, never by tests.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from medi.core.claims import PRIMARY
from medi.core.set_names import GAP, parts_of
from medi.core.tables import DIFFERENCE
from medi.figures.names import DASH, arm_name, head_name, in_order, interval, known
from medi.report.parts import Entry, Table, table_of
from medi.report.remedies import EVERY, REAL, called, is_generated
from medi.report.run import pick
from medi.report.sections.words import with_interval

CHOSEN = "chosen"  # in place of a head: a set's own
LEVEL = 0.05  # of p-values after Holm


def by_head(heads: pd.DataFrame, split: str = EVERY) -> pd.DataFrame:
    """The primary endpoint, a row per training set and a column per head, NaN where a head has none."""
    rows = pick(heads, metric=PRIMARY, split=split)
    if rows.empty:
        return pd.DataFrame()
    wide = rows.pivot(index="arm", columns="head", values="value")
    return wide.loc[in_order(rows["arm"]), list(dict.fromkeys(rows["head"]))]


def heads_table(heads: pd.DataFrame) -> Table | None:
    """The same with intervals; undefined ones with their reason."""
    rows = pick(heads, metric=PRIMARY, split=EVERY)
    if rows.empty:
        return None
    lines = [_line(arm, rows[rows["arm"] == arm]) for arm in in_order(rows["arm"])]
    counted = f"n = {int(rows['n_real'].max()):,} test patches of {int(rows['n_patients'].max()):,} patients"
    return table_of(f"Mean recall over combinations, training sets by heads; {counted}", pd.DataFrame(lines))


def heads_sentences(heads: pd.DataFrame) -> list[str]:
    """Of every generated set: under one head with the real images, and each under the head that its training chose.

    A stain-normalised set stands beside real images under the same normalisation.
    """
    rows = pick(heads, metric=f"{PRIMARY}{DIFFERENCE}", split=EVERY)
    made = [arm for arm in in_order(rows.get("arm", [])) if _is_named(rows[rows["arm"] == arm].iloc[0])]
    like = {arm: parts_of(arm)[1] or REAL for arm in made}
    return [text for arm in made for text in _sentences(heads, pick(rows, arm=arm, against=like[arm]), arm, like[arm])]


def _is_named(row: pd.Series) -> bool:
    return is_generated(row) and not row["arm"].endswith(GAP)


def _line(arm: str, rows: pd.DataFrame) -> dict[str, Any]:
    line: dict[str, Any] = {"training set": called(arm)}
    for row in rows.itertuples():
        chosen = f" ({head_name(_chosen(row))})" if row.head == CHOSEN and known(row.value) else ""
        entry = with_interval(row)
        line[head_name(str(row.head))] = Entry(f"{entry.text}{chosen}", entry.key, entry.number)
    return line


def _sentences(heads: pd.DataFrame, rows: pd.DataFrame, arm: str, like: str) -> Iterator[str]:
    same = rows[(rows["head"] != CHOSEN) & rows["value"].notna()].sort_values("value")
    if len(same):
        first, last = same.iloc[0], same.iloc[-1]
        above = int(((same["p_adjusted"] < LEVEL) & (same["value"] > 0)).sum())
        yield (
            f"Under one and the same head, {arm_name(arm)} less {arm_name(like)} is {_signed(first['value'])} "
            f"({head_name(first['head'])}) to {_signed(last['value'])} ({head_name(last['head'])}). It is above 0 "
            f"under {above} of {len(same)} heads, p < {LEVEL:g} after Holm."
        )
    yield from _each_with_its_own(heads, rows[rows["head"] == CHOSEN], arm, like)


def _each_with_its_own(heads: pd.DataFrame, rows: pd.DataFrame, arm: str, like: str) -> Iterator[str]:
    """Best with best, where both have a head that was chosen."""
    values = pick(heads, metric=PRIMARY, split=EVERY, head=CHOSEN).set_index("arm")
    if rows.empty or not known(rows["value"].iloc[0]):
        return
    mine, theirs, apart = values.loc[arm], values.loc[like], rows.iloc[0]
    yield (
        f"Each under the head that combinations left out of its own training chose: {arm_name(arm)} "
        f"{mine['value']:.3f} ({head_name(_chosen(mine))}), {arm_name(like)} {theirs['value']:.3f} "
        f"({head_name(_chosen(theirs))}); the difference is {_signed(apart['value'])}"
        f"{interval(apart['low'], apart['high'], _signed)}."
    )


def _chosen(row: Any) -> str:
    """The head that was chosen for a set: the first of its reasons names it."""
    first = str(row.reason).split("; ", maxsplit=1)[0]
    return first.removeprefix("head ")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if known(value) else DASH
