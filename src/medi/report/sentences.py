"""Three sentences computed from the numbers: closer images? a better classifier? what speaks against it?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from medi.report.parts import interval, known, number, share, short

Results = dict[str, Any]
NAMED = 3  # combinations or classes that a sentence lists by name


def summary(results: Results, fidelity: pd.DataFrame, utility: pd.DataFrame, attribute: str) -> list[str]:
    """What the study found on combinations that training never showed; each sentence follows the sign of its numbers.

    results: the content of results.json; fidelity, utility: the result tables (empty where a stage has not run).
    """
    return [
        distance(results, fidelity, attribute),
        gain(results, utility, attribute),
        limits(results, fidelity, utility, attribute),
    ]


def distance(results: Results, fidelity: pd.DataFrame, attribute: str) -> str:
    """Whether MeDi or CLS is closer to real images of unseen combinations, and how far from the floor."""
    numbers = results.get("frechet", {}).get("unseen", {})
    floor, cls, medi = (numbers.get(arm) for arm in ("floor", "cls", "medi"))
    if not (known(cls) and known(medi)):
        return f"Which model's images of unseen combinations are closer to real ones is not known{_reason(fidelity)}."
    beside = f"{_against_floor(floor, cls, medi)}{_wins(fidelity, attribute)}"
    return (
        f"On combinations that no training image showed, MeDi’s images are {_closer(cls, medi, fidelity)} CLS’s: "
        f"a Fréchet distance of {number(medi)} against {number(cls)}{beside}."
    )


def _closer(cls: float, medi: float, fidelity: pd.DataFrame) -> str:
    if medi == cls:
        return "as far from real ones as"
    difference = _mean_difference(fidelity)
    unsure = difference is not None and difference["low"] <= 0 <= difference["high"]
    sure = "not for certain " if unsure else ""
    return f"{sure}closer to real ones than" if medi < cls else f"{sure}farther from real ones than"


def _mean_difference(fidelity: pd.DataFrame) -> pd.Series | None:
    """The paired difference of CLS and MeDi over all unseen combinations, where it has an interval."""
    if fidelity.empty:
        return None
    rows = fidelity[(fidelity["metric"] == "frechet_difference") & (fidelity["scope"] == "combination_mean")]
    rows = rows[(rows["seen"] == "unseen") & rows["arm"].str.contains("cls") & rows["arm"].str.contains("medi")]
    rows = rows.dropna(subset=["low", "high"])
    return None if rows.empty else rows.iloc[0]


def _against_floor(floor: Any, cls: float, medi: float) -> str:
    if not (known(floor) and floor > 0):
        return ""
    text = (
        f", where two sets of real images are {number(floor)} apart; MeDi is at {number(medi / floor)} times this floor"
    )
    return text + (f", with {share((medi - floor) / (cls - floor))} of CLS’s excess over it" if cls > floor else "")


def _wins(fidelity: pd.DataFrame, attribute: str) -> str:
    pairs = _pairs(fidelity, attribute, "unseen")
    return f"; MeDi is closer in {(pairs['medi'] < pairs['cls']).sum()} of the {len(pairs)}" if len(pairs) else ""


def gain(results: Results, utility: pd.DataFrame, attribute: str) -> str:
    """Whether the classifier is better with MeDi's images on unseen combinations, and how much of the gap closes."""
    numbers = results.get("balanced_accuracy", {}).get("unseen", {})
    real, cls, medi, oracle = (numbers.get(arm) for arm in ("real", "cls", "medi", "oracle"))
    if not (known(real) and known(medi)):
        return f"Whether a classifier gains on unseen combinations is not known{_reason(utility)}."
    difference = _row(utility, attribute, "balanced_accuracy_difference", "medi - real")
    others = {"CLS’s": cls, "real ones in their place (the oracle)": oracle}
    beside = " and ".join(f"{value:.2f} with {name}" for name, value in others.items() if known(value))
    return (
        f"On these combinations a classifier {_verdict(real, medi, difference)}: balanced accuracy is {real:.2f} with "
        f"real images alone and {medi:.2f} with MeDi’s added{f', against {beside}' if beside else ''}; "
        f"{_gap(results, _row(utility, attribute, 'gap_closed', 'medi'))}."
    )


def _verdict(real: float, medi: float, difference: pd.Series | None) -> str:
    direction = "gains by" if medi > real else "loses by"
    if difference is None or not (known(difference["low"]) and known(difference["high"])):
        return f"{direction} MeDi’s images, as far as single numbers without an interval tell"
    if difference["low"] <= 0 <= difference["high"]:
        return "neither gains nor loses for certain by MeDi’s images (the interval of the difference includes zero)"
    return f"{direction} MeDi’s images"


def _gap(results: Results, row: pd.Series | None) -> str:
    gap: Any = results.get("gap_closed")
    if not known(gap):
        why = f" ({row['reason']})" if row is not None and row["reason"] else ""
        return f"the share of the gap between real images alone and the oracle that this closes is undefined{why}"
    bounds = interval(row["low"], row["high"], share) if row is not None else ""
    if gap < 0:
        return f"the gap to the oracle widens by {share(-gap)} (gap closed: {share(gap)}{bounds})"
    return f"this closes {share(gap)}{bounds} of the gap between real images alone and the oracle"


def limits(results: Results, fidelity: pd.DataFrame, utility: pd.DataFrame, attribute: str) -> str:
    """What is negative, uncertain or not covered, worst first."""
    found = [
        _worse_combinations(fidelity, attribute),
        _worse_classes(utility, attribute),
        _seen_accuracy(results),
        _seen_distance(results),
        _undefined(fidelity),
        "each model was trained once, so the intervals do not cover another training",
        "the cohort is procedural, so nothing here speaks for real tissue" if results.get("phantom") else "",
    ]
    return f"To be held against this: {'; '.join(filter(None, found))}."


def _worse_combinations(fidelity: pd.DataFrame, attribute: str) -> str:
    pairs = _pairs(fidelity, attribute, "")
    worse = pairs[pairs["medi"] >= pairs["cls"]]
    names = [f"{short(row['class'])} at {short(row[attribute])}" for _, row in worse.iterrows()]
    return f"MeDi is no closer than CLS in {len(worse)} of {len(pairs)} combinations ({_list(names)})" if names else ""


def _worse_classes(utility: pd.DataFrame, attribute: str) -> str:
    if utility.empty:
        return ""
    rows = utility[(utility["metric"] == "recall") & (utility["split"] == "unseen") & (utility[attribute] == "")]
    recall = rows.pivot_table(index="class", columns="arm", values="value", aggfunc="mean")
    if not {"real", "medi"} <= set(recall.columns):
        return ""
    worse = [short(name) for name in recall.index[recall["medi"] < recall["real"]]]
    return f"recall on unseen combinations falls for {_list(worse)}" if worse else ""


def _seen_accuracy(results: Results) -> str:
    seen = results.get("balanced_accuracy", {}).get("seen", {})
    real, medi = seen.get("real"), seen.get("medi")
    if not (known(real) and known(medi) and medi < real):
        return ""
    return f"on combinations that training showed, MeDi’s images lower balanced accuracy from {real:.3f} to {medi:.3f}"


def _seen_distance(results: Results) -> str:
    seen, unseen = (results.get("frechet", {}).get(split, {}).get("medi") for split in ("seen", "unseen"))
    if not (known(seen) and known(unseen) and seen > unseen):
        return ""
    return f"MeDi is farther from real images on combinations it was trained on ({number(seen)}) than on unseen ones"


def _undefined(fidelity: pd.DataFrame) -> str:
    if fidelity.empty:
        return ""
    rows = fidelity[
        (fidelity["metric"] == "frechet") & (fidelity["scope"] == "combination") & (fidelity["arm"] == "medi")
    ]
    count = rows["value"].isna().sum()
    return f"MeDi’s distance is undefined in {count} of {len(rows)} combinations" if count else ""


def _pairs(fidelity: pd.DataFrame, attribute: str, seen: str) -> pd.DataFrame:
    """One row per combination (of `seen`, or all) that has both distances, in the columns cls and medi."""
    if fidelity.empty:
        return pd.DataFrame(columns=["cls", "medi"])
    rows = fidelity[(fidelity["metric"] == "frechet") & (fidelity["scope"] == "combination")]
    rows = rows[rows["seen"] == seen] if seen else rows
    keys = ["class", attribute]
    table = rows.pivot_table(index=keys, columns="arm", values="value").reset_index()
    return table.reindex(columns=[*keys, "cls", "medi"]).dropna(subset=["cls", "medi"])


def _row(utility: pd.DataFrame, attribute: str, metric: str, arm: str) -> pd.Series | None:
    """The row of a metric over all unseen combinations, or None."""
    if utility.empty:
        return None
    rows = utility[(utility["metric"] == metric) & (utility["split"] == "unseen") & (utility["class"] == "")]
    rows = rows[(rows[attribute] == "") & (rows["arm"] == arm)]
    return None if rows.empty else rows.iloc[0]


def _reason(table: pd.DataFrame) -> str:
    """' (why)' from the first undefined row, or that the stage has not run."""
    if table.empty:
        return " (this stage has not run)"
    reasons = [reason for reason in table.loc[table["value"].isna(), "reason"] if reason]
    return f" ({reasons[0]})" if reasons else ""


def _list(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
