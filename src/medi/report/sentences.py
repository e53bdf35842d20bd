"""Three sentences computed from the numbers: closer images? a better classifier? what speaks against it?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from medi.figures.names import arm_name, interval, known, number, share, short
from medi.report.run import Run, pick

Results = dict[str, Any]
NAMED = 3  # combinations or classes that a sentence lists by name
GUARD = "collapse guard"  # how a table's reason says that recall fell
NOT_RIVALS = ("real", "cls", "medi", "oracle")  # told on their own
COPIES, LEAKS = 0.01, 0.05  # shares of fresh real patches that the tests call copies, and leaks of slides
OBEDIENT = 0.95  # of the probe's accuracy on real images


def summary(run: Run) -> list[str]:
    """What was found on combinations that training never showed; each sentence follows the sign of its numbers."""
    fidelity, attribute = run.main(run.fidelity), run.attribute
    utility = run.of_task(run.tasks[0]).utility
    return [
        distance(run.results, fidelity, attribute),
        gain(run.results, utility),
        limits(run.results, fidelity, utility, attribute, run.main(run.control), run.memorisation),
    ]


def distance(results: Results, fidelity: pd.DataFrame, attribute: str) -> str:
    """Whether MeDi or CLS is closer to real images of unseen combinations, and how far from the floor."""
    numbers = results.get("frechet", {}).get("unseen", {})
    floor, cls, medi = (numbers.get(arm) for arm in ("floor", "cls", "medi"))
    if not (known(cls) and known(medi)):
        return f"Which model's images of unseen combinations are closer to real ones is not known{_reason(fidelity)}."
    beside = f"{_against_floor(floor, cls, medi)}{_wins(fidelity, attribute)}"
    if notes := guarded(fidelity, "unseen"):
        return (
            f"On combinations that no training image showed, MeDi’s Fréchet distance is {number(medi)} and CLS’s "
            f"{number(cls)}{beside}; {notes[0]}."
        )
    return (
        f"On combinations that no training image showed, MeDi’s images are {_closer(cls, medi, fidelity)} CLS’s: "
        f"a Fréchet distance of {number(medi)} against {number(cls)}{beside}."
    )


def guarded(fidelity: pd.DataFrame, split: str, scope: str = "combination_mean") -> list[str]:
    """Why the collapse guard withholds "closer" from the mean distances of CLS and MeDi; nothing where it does not."""
    rows = pick(fidelity, metric=["frechet_difference", "mmd2_difference"], scope=scope, split=split)
    if rows.empty:
        return []
    rows = _of_both(rows)
    found = [part for reason in rows["reason"] for part in reason.split("; ") if GUARD in part.casefold()]
    return [note.replace("medi's", "MeDi’s").replace("cls's", "CLS’s") for note in dict.fromkeys(found)]


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
    rows = _of_both(rows[rows["split"] == "unseen"])
    rows = rows.dropna(subset=["low", "high"])
    return None if rows.empty else rows.iloc[0]


def _of_both(rows: pd.DataFrame) -> pd.DataFrame:
    """The differences of CLS and MeDi, whichever comes first."""
    return pick(rows, arm=["cls", "medi"], against=["cls", "medi"])


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


def gain(results: Results, utility: pd.DataFrame) -> str:
    """Whether the classifier is better with MeDi's images on unseen combinations, and how much of the gap closes."""
    numbers = results.get("balanced_accuracy", {}).get("unseen", {})
    real, cls, medi, oracle = (numbers.get(arm) for arm in ("real", "cls", "medi", "oracle"))
    if not (known(real) and known(medi)):
        return f"Whether a classifier gains on unseen combinations is not known{_reason(utility)}."
    difference = _row(utility, "balanced_accuracy_difference", "medi", "real")
    others = {"CLS’s": cls, "real ones in their place (the oracle)": oracle}
    beside = " and ".join(f"{value:.2f} with {name}" for name, value in others.items() if known(value))
    return (
        f"On these combinations a classifier {_verdict(real, medi, difference)}: balanced accuracy is {real:.2f} with "
        f"real images alone and {medi:.2f} with MeDi’s added{f', against {beside}' if beside else ''}; "
        f"{_gap(results, _row(utility, 'gap_closed', 'medi'))}{_rivals(utility, medi)}."
    )


def _rivals(utility: pd.DataFrame, medi: float) -> str:
    """The arms without MeDi's images that do better: whoever wins is named."""
    if utility.empty:
        return ""
    rows = pick(utility, metric="balanced_accuracy", split="unseen", scope="all")
    rows = rows[~rows["arm"].isin(NOT_RIVALS) & ~rows["arm"].str.startswith("medi")].dropna(subset="value")
    if rows.empty:
        return ""
    rows = rows.sort_values("value", ascending=False)
    better = rows[rows["value"] > medi]
    if better.empty:
        best = rows.iloc[0]
        return f"; no other way does better (the best of {len(rows)}: {arm_name(best['arm'])} with {best['value']:.2f})"
    named = _list([_rival(row, utility) for _, row in better.iterrows()])
    return f"; {len(better)} of {len(rows)} other ways do better without MeDi’s images: {named}"


def _rival(row: pd.Series, utility: pd.DataFrame) -> str:
    """'coral (0.86, not for certain)'."""
    difference = _row(utility, "balanced_accuracy_difference", "medi", row["arm"])
    sure = difference is not None and known(difference["high"]) and difference["high"] < 0
    shown = ", with unlabelled test images" if row.get("panel") == "transductive" else ""
    return f"{arm_name(row['arm'])} ({row['value']:.2f}{shown}{'' if sure else ', not for certain'})"


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


def limits(
    results: Results,
    fidelity: pd.DataFrame,
    utility: pd.DataFrame,
    attribute: str,
    control: pd.DataFrame | None = None,
    copying: pd.DataFrame | None = None,
) -> str:
    """What is negative, uncertain or not covered, worst first."""
    found = [
        _copies(copying),
        _disobedience(control),
        _worse_combinations(fidelity, attribute),
        _worse_classes(utility),
        _seen_accuracy(results),
        _seen_distance(results),
        _undefined(fidelity),
        _trainings(results),
        "the cohort is procedural, so nothing here speaks for real tissue" if results.get("phantom") else "",
    ]
    return f"To be held against this: {'; '.join(filter(None, found))}."


def _copies(copying: pd.DataFrame | None) -> str:
    if copying is None or copying.empty:
        return ""
    said = [_above(copying, "copy_rate", COPIES, "count as copies of training patches")]
    said.append(_above(copying, "slide_leak", LEAKS, "lie as near to one training slide as no other patient’s should"))
    return " and ".join(filter(None, said))


def _above(copying: pd.DataFrame, metric: str, expected: float, what: str) -> str:
    """A rate of MeDi that is clearly above what fresh real images have."""
    rows = pick(copying, metric=metric, arm="medi").dropna(subset="value")
    if rows.empty:
        return ""
    row = rows.iloc[0]
    if (row["low"] if known(row["low"]) else row["value"]) <= expected:
        return ""
    rate = f"{share(row['value'])}{interval(row['low'], row['high'], share)}"
    return f"{rate} of MeDi’s images {what} ({share(expected)} would be no sign of it)"


def _disobedience(control: pd.DataFrame | None) -> str:
    """Attributes that the probe sees in MeDi's images clearly less often than in real ones, on unseen combinations."""
    if control is None or control.empty:
        return ""
    rows = pick(control, metric="as_asked", scope="all", split="unseen", arm=["real", "medi"])
    if not {"real", "medi"} <= set(rows["arm"]):
        return ""
    wide = rows.pivot_table(index="attribute", columns="arm", values="value", sort=False)
    less = wide[wide["medi"] < OBEDIENT * wide["real"]]
    said = [
        f"the {short(str(name))} in {share(row['medi'])} ({share(row['real'])} in real ones)"
        for name, row in less.iterrows()
    ]
    return f"of MeDi’s images of unseen combinations a probe recognises {_list(said)}" if said else ""


def _trainings(results: Results) -> str:
    seeds = results.get("seeds")
    if isinstance(seeds, list) and len(seeds) > 1:
        return ""
    return "each model was trained once, so the intervals do not cover another training"


def _worse_combinations(fidelity: pd.DataFrame, attribute: str) -> str:
    pairs = _pairs(fidelity, attribute, "")
    worse = pairs[pairs["medi"] >= pairs["cls"]]
    names = [f"{short(row['class'])} at {short(row[attribute])}" for _, row in worse.iterrows()]
    return f"MeDi is no closer than CLS in {len(worse)} of {len(pairs)} combinations ({_list(names)})" if names else ""


def _worse_classes(utility: pd.DataFrame) -> str:
    if utility.empty:
        return ""
    rows = pick(utility, metric="recall", split="unseen", scope="class")
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


def _pairs(fidelity: pd.DataFrame, attribute: str, split: str) -> pd.DataFrame:
    """One row per combination (of `split`, or all) that has both distances, in the columns cls and medi."""
    if fidelity.empty:
        return pd.DataFrame(columns=["cls", "medi"])
    rows = fidelity[(fidelity["metric"] == "frechet") & (fidelity["scope"] == "combination")]
    rows = rows[rows["split"] == split] if split else rows
    keys = ["class", attribute]
    table = rows.pivot_table(index=keys, columns="arm", values="value").reset_index()
    return table.reindex(columns=[*keys, "cls", "medi"]).dropna(subset=["cls", "medi"])


def _row(utility: pd.DataFrame, metric: str, arm: str, against: str = "") -> pd.Series | None:
    """The row of a metric over all unseen combinations, or None."""
    rows = pick(utility, metric=metric, arm=arm, against=against, split="unseen", scope="all")
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
