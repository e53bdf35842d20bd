"""Which remedy a table of judged ones chooses: what `medi recommend`, a study and its report all go by.

Columns: set, head, value, gain, gain_low, gain_high, true, reason; a row per remedy, the best first.
"""

import pandas as pd

REAL, USUAL = "real", "logistic"  # the set and the head that gains are counted from


def best_of(table: pd.DataFrame) -> pd.Series | None:
    """The remedy of the highest value; None where none could be judged."""
    return None if table["value"].isna().all() else table.iloc[0]


def is_worth_it(table: pd.DataFrame) -> bool:
    """Whether the interval of the best one's gain is above zero."""
    best = best_of(table)
    return best is not None and bool(best["gain_low"] > 0)


def row_of(table: pd.DataFrame, set_: str, head: str) -> pd.Series | None:
    """A remedy's row; None where it was not tried."""
    found = table[(table["set"] == set_) & (table["head"] == head)]
    return None if found.empty else found.iloc[0]


def chosen_of(table: pd.DataFrame) -> pd.Series | None:
    """The remedy to take: the best where it is worth it, else the real rows under the usual head."""
    return best_of(table) if is_worth_it(table) else row_of(table, REAL, USUAL)


def regret_of(table: pd.DataFrame) -> float:
    """How far the chosen remedy stays below the best one on the test; NaN where that was not opened."""
    chosen = chosen_of(table)
    return float("nan") if chosen is None else float(table["true"].max() - chosen["true"])
