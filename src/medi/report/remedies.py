"""The headline table: every training set under one head, with the primary endpoint and what stands beside it."""

from typing import Any

import pandas as pd

from medi.core.claims import PRIMARY
from medi.core.set_names import parts_of
from medi.figures.names import ARMS, arm_name, known, needs_generator, number
from medi.report.parts import Entry, Table, entry, table_of
from medi.report.run import pick
from medi.report.sections.words import with_interval

EVERY, NOISE, CHANCE, REAL, ORACLE = "all", "pure_noise", "chance", "real", "oracle"
NEEDS = ("nothing", "nothing", "test images", "a generator", "", "real images")  # by place in the table
FIXED, GENERATED = {REAL: 0, NOISE: 4, ORACLE: 5, CHANCE: 6}, 3  # places
NEW_SITES = "unseen_sites"  # the split of test patches from sites of which training has nothing, where there is one
COLUMNS = (
    *("arm", "needs", "value", "low", "high", "unseen", "seen", "worst_five"),
    *("n_train", "n_real", "n_patients", "reason"),
)


def remedies(utility: pd.DataFrame) -> pd.DataFrame:
    """A row per training set: `COLUMNS`, of one task's table; empty where the primary endpoint was not measured.

    value, low, high: mean recall over all combinations, with its interval. unseen, seen: the same over these.
    worst_five: mean of the five lowest recalls. unseen_sites: only where whole sites were kept from training. n_real,
    n_patients: test patches and their patients. needs: what it takes beside the training patches. Sets of alike
    needs follow one another, from the highest value down; chance is the last row.
    """
    rows = pick(utility, metric=[PRIMARY, CHANCE], scope="all", split=EVERY)
    if rows.empty or (rows["metric"] == CHANCE).all():
        return pd.DataFrame(columns=list(COLUMNS))
    splits = ["unseen", "seen", *([NEW_SITES] if (utility["split"] == NEW_SITES).any() else [])]
    for split in splits:
        beside = pick(utility, metric=[PRIMARY, CHANCE], scope="all", split=split)
        rows = rows.assign(**{split: rows["arm"].map(_by_arm(beside))})
    worst = _by_arm(pick(utility, metric="worst_five", scope="all", split=EVERY))
    generated = {row["arm"] for _, row in rows.iterrows() if is_generated(row)}
    places = [_place(row, generated) for _, row in rows.iterrows()]
    rows = rows.assign(worst_five=rows["arm"].map(worst), place=places, needs=[(*NEEDS, "")[i] for i in places])
    rows = rows.sort_values(["place", "value"], ascending=[True, False], kind="stable").reset_index(drop=True)
    return rows[[*COLUMNS, *splits[2:]]]


def _place(row: pd.Series, generated: set[str]) -> int:
    """Where a training set stands: real only, baselines, those that see test images, generated, noise, oracle.

    A normalised set without figures has no rows of its own to tell; it stands where the set does.
    """
    if is_fixed(row["arm"]):
        return FIXED[parts_of(row["arm"])[0]]
    if {row["arm"], parts_of(row["arm"])[0]} & generated:
        return GENERATED
    return 2 if row.get("panel") == "transductive" else 1


def is_fixed(arm: str) -> bool:
    """Whether a set is no remedy: real patches as they are, noise, chance, and the oracle, also after normalisation."""
    return parts_of(arm)[0] in FIXED


def is_generated(row: pd.Series) -> bool:
    """Whether a training set holds images that a generator made; noise is none."""
    return not is_fixed(row["arm"]) and (needs_generator(row["arm"]) or bool(row.get("n_synthetic", 0) > 0))


def headline_table(rows: pd.DataFrame) -> Table | None:
    """The table at the top of the report; nothing where there are no rows."""
    if rows.empty:
        return None
    counted = f"n = {number(rows['n_real'].iloc[0])} test patches of {number(rows['n_patients'].iloc[0])} patients"
    lines = pd.DataFrame([_line(row) for row in rows.itertuples()])
    return table_of(f"Mean recall over combinations, by training set; {counted}", lines)


def _line(row: Any) -> dict[str, Any]:
    places = {name: name.replace("_", " ") for name in ("unseen", "seen", NEW_SITES) if hasattr(row, name)}
    three = {text: _three(getattr(row, name)) for name, text in places.items()}
    return {
        "training set": called(row.arm),
        "needs": row.needs,
        "all combinations": with_interval(row),
        **three,
        "five worst": _three(row.worst_five),
        "training patches": row.n_train if row.n_train else None,
    }


def _three(value: float) -> Entry:
    """Three decimals, as they stand in the column of the primary endpoint."""
    return Entry(f"{value:.3f}", str(value), True) if known(value) else entry(None)


def called(arm: str) -> str:
    """A training set as a row's name: what is added to the real images, or what is done with them."""
    added = parts_of(arm)[0]
    return f"+ {arm_name(arm)}" if added in (*ARMS, NOISE) and added not in (REAL, ORACLE) else arm_name(arm)


def _by_arm(rows: pd.DataFrame) -> dict[str, float]:
    return dict(zip(rows["arm"], rows["value"])) if len(rows) else {}


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON holds them, undefined numbers as None."""
    known = rows.astype(object).where(rows.notna(), None)
    return [dict(zip(known.columns, row)) for row in known.itertuples(index=False)]


def chance_of(rows: pd.DataFrame) -> float | None:
    """Chance on the primary endpoint, from the table of `remedies`."""
    found = rows.loc[rows["arm"] == CHANCE, "value"]
    return float(found.iloc[0]) if len(found) and known(found.iloc[0]) else None
