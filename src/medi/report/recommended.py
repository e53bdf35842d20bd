"""What is said of the choice of a remedy: which one, what it is expected to gain, and the regret where it is known."""

import pandas as pd

from medi.core.choice import REAL, USUAL, VOTE, best_of, chosen_of, is_worth_it, regret_of, row_of, vote_of
from medi.core.set_names import parts_of
from medi.figures.names import arm_name, head_name, known, needs_generator

WHERE = "on combinations and patients of training that were left out"


def recommended(table: pd.DataFrame) -> str:
    """The remedy that is recommended, or that none is certainly worth it, in a sentence or two."""
    has_vote, usual = vote_of(table) is not None, row_of(table, REAL, USUAL)
    taken = chosen_of(table) if has_vote else best_of(table)
    if taken is None:
        return f"No remedy could be judged: {table['reason'].iloc[0]}."
    gain = f"{taken['gain']:+.3f} [{taken['gain_low']:.3f}, {taken['gain_high']:.3f}]"
    if is_worth_it(table):
        than = "" if usual is None else f", {usual['value']:.3f} for real images under the usual head"
        return f"Recommended: {_named(taken)}. Mean recall {WHERE}: {taken['value']:.3f}{than}; gain {gain}."
    if (taken["set"], taken["head"]) == (REAL, USUAL):
        return (
            f"No remedy is worth it: real images under the usual head are the best {WHERE}, with {taken['value']:.3f}."
        )
    if has_vote:
        return (
            f"No remedy is certain to be worth it: {_named(taken)} gains {gain} {WHERE}. It is the safest choice; "
            "keep the usual head if you want a single classifier."
        )
    return f"No remedy is worth it: the best one, {_named(taken)}, gains {gain} {WHERE}. Keep the usual head."


def regretted(table: pd.DataFrame) -> list[str]:
    """The regret of the choice on the true hold-out beside those of fixed choices; nothing where it stays closed."""
    chosen = chosen_of(table)
    if chosen is None or "true" not in table or not known(chosen["true"]):
        return []
    rows = table[(table["head"] == USUAL) & table["true"].notna()]
    below = zip(rows["set"].astype(str), table["true"].max() - rows["true"])
    others = sorted(f"{'real images' if name == REAL else arm_name(name)} {regret:.3f}" for name, regret in below)
    fixed = f"; under the usual head always: {', '.join(others)}" if others else ""
    return [
        f"Regret on the true hold-out: {regret_of(table):.3f}{fixed}. The chosen remedy has {chosen['true']:.3f} there."
    ]


def _named(row: pd.Series) -> str:
    name = str(row["set"])
    if row["head"] == VOTE:
        return "the soft vote, which is the mean of the probabilities that the better half of all remedies give"
    where = "real images" if name == REAL else f"images after {arm_name(name)}"
    if needs_generator(name):
        added, by = parts_of(name)
        where = f"real images with those of {arm_name(added)}{f', both after {arm_name(by)}' if by else ''}"
        where = f"{where} ({row['reason']})"
    return f"{where} under the head {head_name(str(row['head']))}"
