"""Which remedy a table of judged ones chooses: what `medi recommend`, a study and its report all go by.

Columns: set, head, value, gain, gain_low, gain_high, lead_low, true, reason; a row per remedy, the best first.
"""

import pandas as pd

REAL, USUAL = "real", "logistic"  # the set and the head that gains are counted from
EVERY_SET, VOTE = "every_set", "soft_vote"  # the set and the head of many remedies together


def best_of(table: pd.DataFrame) -> pd.Series | None:
    """The remedy of the highest value; None where none could be judged."""
    return None if table["value"].isna().all() else table.iloc[0]


def vote_of(table: pd.DataFrame) -> pd.Series | None:
    """The soft vote of the better half of the remedies; None where fewer than two could be judged."""
    return row_of(table, EVERY_SET, VOTE)


def is_worth_it(table: pd.DataFrame) -> bool:
    """Whether the interval of the gain is above zero: that of the soft vote or of what is chosen in its place, or of
    the best remedy where there is no vote."""
    chosen = best_of(table) if vote_of(table) is None else chosen_of(table)
    return chosen is not None and bool(chosen["gain_low"] > 0)


def row_of(table: pd.DataFrame, set_: str, head: str) -> pd.Series | None:
    """A remedy's row; None where it was not tried."""
    found = table[(table["set"] == set_) & (table["head"] == head)]
    return None if found.empty else found.iloc[0]


def chosen_of(table: pd.DataFrame) -> pd.Series | None:
    """The remedy to take: the soft vote, unless the best one is better by an interval above zero.

    Where there is no vote: the best one where it is worth it, else the real rows under the usual head.
    """
    best, vote = best_of(table), vote_of(table)
    if vote is None or best is None:
        return best if is_worth_it(table) else row_of(table, REAL, USUAL)
    return best if best["lead_low"] > 0 else vote


def regret_of(table: pd.DataFrame) -> float:
    """How far the chosen remedy stays below the best one on the test; NaN where that was not opened."""
    chosen = chosen_of(table)
    return float("nan") if chosen is None else float(table["true"].max() - chosen["true"])
