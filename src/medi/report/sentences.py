"""Paragraphs computed from the numbers: the verdict, closer images?, what speaks against it?"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pandas as pd

from medi.core.claims import COPIES, GUARD, LEAKS
from medi.core.tables import RESULTS
from medi.figures.names import arm_name, in_order, interval, known, number, share, short
from medi.report.recommended import recommended, regretted
from medi.report.run import Audit, Results, Run, pick
from medi.report.sections.by_encoder import spoken_by_encoder
from medi.report.verdict import verdict

NAMED = 3  # combinations or classes that a sentence lists by name
AS_ASKED = 0.95  # of the probe's accuracy on real images


def summary(run: Run) -> list[str]:
    """What was found: the remedy to take and its regret, then the verdict; each sentence follows its numbers."""
    fidelity, control, attribute = run.main(run.fidelity), run.main(run.control), run.attribute
    utility = run.of_task(run.tasks[0]).utility
    return [
        *lost(run),
        *choice(run.recommend),
        *verdict(utility, control, fidelity),
        distance(run.results, fidelity, attribute, run.lacking),
        *spoken_by_encoder(run.by_encoder, run.fidelity),
        limits(run.results, fidelity, utility, attribute, control, run.memorisation, run.training_audit),
    ]


def choice(table: pd.DataFrame) -> list[str]:
    """Which remedy training chose, and what that cost; nothing where none was asked for."""
    return [recommended(table), *regretted(table)] if len(table) else []


def lost(run: Run) -> list[str]:
    """Tables that a stage wrote and that are no longer there."""
    gone = [f"tables/{name}.parquet" for name in RESULTS if getattr(run, name).empty]
    named = [name for name in gone if name in run.results.seconds]
    if not named:
        return []
    return [f"Parts of this run are missing: {', '.join(named)}. `medi run` with the same study and folder makes them."]


def _joined(sentences: Iterable[str]) -> str:
    """Sentences, with their full stops; empty ones are left out."""
    return " ".join(f"{text}." for text in sentences if text)


# --- closer images? ---------------------------------------------------------------------------------------------------


def distance(
    results: Results, fidelity: pd.DataFrame, attribute: str, lacking: Collection[tuple[str, str]] = ()
) -> str:
    """Whether MeDi or CLS is closer to real images of unseen combinations, and how far from the floor.

    lacking: unseen combinations (class, level) that were not held out, as the cohort lacks them.
    """
    floor, cls, medi = (results.distance(arm) for arm in ("floor", "cls", "medi"))
    if others := _others(fidelity):
        return _joined([_how_far(results, arm, fidelity) for arm in others] + _apart(floor))
    if not (known(cls) and known(medi)):
        return f"Which model's images of unseen combinations are closer to real ones is not known{_reason(fidelity)}."
    notes = guarded(fidelity, "unseen")
    verdict = f"MeDi’s images are {_closer(cls, medi, fidelity)}"
    found = [
        "" if notes else f"On unseen combinations, {verdict}",
        f"The mean Fréchet distance on unseen combinations is {number(medi)} for MeDi and {number(cls)} for CLS",
        *_against_floor(floor, cls, medi),
        _wins(fidelity, attribute, lacking),
        f"Which of them is closer is not said, as {notes[0]}" if notes else "",
    ]
    return _joined(found)


def guarded(fidelity: pd.DataFrame, split: str, scope: str = "combination_mean") -> list[str]:
    """Why the collapse guard withholds "closer" from the mean distances of CLS and MeDi; nothing where it does not."""
    rows = pick(fidelity, metric=["frechet_difference", "mmd2_difference"], scope=scope, split=split)
    if rows.empty:
        return []
    found = [part for reason in _of_both(rows)["reason"] for part in reason.split("; ") if GUARD in part]
    return [_plain(note) for note in dict.fromkeys(found)]


def _plain(note: str) -> str:
    """A guard's note for a reader, also one of version 0.1."""
    text = note.removeprefix(f"{GUARD}: ").replace(", 'closer' is withheld", "")
    return text.replace("medi's", "MeDi’s").replace("cls's", "CLS’s").replace("floor's", "that of real images,")


def _closer(cls: float, medi: float, fidelity: pd.DataFrame) -> str:
    if medi == cls:
        return "as far from real ones as CLS’s"
    difference = _mean_difference(fidelity)
    unsure = difference is not None and difference["low"] <= 0 <= difference["high"]
    words = "closer to" if medi < cls else "farther from"
    return f"{words} real ones than CLS’s" + (", but not for certain" if unsure else "")


def _mean_difference(fidelity: pd.DataFrame) -> pd.Series | None:
    """The paired difference of CLS and MeDi over all unseen combinations, where it has an interval."""
    rows = pick(fidelity, metric="frechet_difference", scope="combination_mean", split="unseen")
    if rows.empty:
        return None
    rows = _of_both(rows).dropna(subset=["low", "high"])
    return None if rows.empty else rows.iloc[0]


def _of_both(rows: pd.DataFrame) -> pd.DataFrame:
    """The differences of CLS and MeDi, whichever comes first."""
    return pick(rows, arm=["cls", "medi"], against=["cls", "medi"])


def _others(fidelity: pd.DataFrame) -> list[str]:
    """The sets of generated images where they are not CLS and MeDi, which are compared; none where nothing is known."""
    found = [] if fidelity.empty else [arm for arm in in_order(fidelity["arm"]) if arm != "floor"]
    return [] if {"cls", "medi"} <= set(found) else found


def _how_far(results: Results, arm: str, fidelity: pd.DataFrame) -> str:
    value, name = results.distance(arm), arm_name(arm)
    if not known(value):
        return f"How far the images of {name} are from real ones on unseen combinations is not known{_reason(fidelity)}"
    return f"The mean Fréchet distance on unseen combinations is {number(value)} for {name}"


def _apart(floor: float | None) -> list[str]:
    return [f"Two sets of real images are {number(floor)} apart, the real-vs-real floor"] if known(floor) else []


def _against_floor(floor: float | None, cls: float, medi: float) -> list[str]:
    if not (known(floor) and floor > 0):
        return []
    found = _apart(floor)
    if cls > floor:
        excess = share((medi - floor) / (cls - floor))
        return [*found, f"MeDi is at {number(medi / floor)} times this floor, with {excess} of CLS’s excess over it"]
    return [*found, f"MeDi is at {number(medi / floor)} times this floor"]


def _wins(fidelity: pd.DataFrame, attribute: str, lacking: Collection[tuple[str, str]]) -> str:
    pairs = _pairs(fidelity, attribute, "unseen")
    if pairs.empty:
        return ""
    never = sum(pair in lacking for pair in zip(pairs["class"], pairs[attribute]))
    kinds = f" ({len(pairs) - never} held out, {never} that the cohort lacks)" if never else ""
    closer = (pairs["medi"] < pairs["cls"]).sum()
    return f"MeDi is closer in {closer} of the {len(pairs)} unseen combinations that are measured{kinds}"


# --- what speaks against it? ------------------------------------------------------------------------------------------


def limits(
    results: Results,
    fidelity: pd.DataFrame,
    utility: pd.DataFrame,
    attribute: str,
    control: pd.DataFrame | None = None,
    memorisation: pd.DataFrame | None = None,
    training_audit: Audit | None = None,
) -> str:
    """What is negative, uncertain or not covered, worst first."""
    found = [
        *_shortcut(training_audit),
        *_copies(memorisation),
        _not_as_asked(control),
        _worse_combinations(fidelity, attribute),
        _worse_classes(utility),
        _seen_accuracy(results),
        _seen_distance(results),
        _undefined(fidelity),
        _trainings(results),
        "The cohort is procedural, so nothing here speaks for real tissue" if results.phantom else "",
    ]
    return f"Limits: {_joined(found) or 'none was found.'}"


def _shortcut(training: Audit | None) -> list[str]:
    """Attributes that give the class away in the training patches."""
    rows = training.tables.get("ceiling") if training else None
    if rows is None or "grade" not in rows:
        return []
    told = rows[rows["grade"].isin(["strong", "alarm"]) & ~rows["attribute"].str.contains(" ")]
    return [
        f"In the training patches, {row['attribute']} gives the class away: without the image, the class of "
        f"{share(row['balanced_accuracy'])} of unseen patients is right (chance {share(row['chance'])})"
        for row in told.to_dict("records")
    ]


def _copies(memorisation: pd.DataFrame | None) -> list[str]:
    if memorisation is None or memorisation.empty:
        return []
    near = "are nearer to one training slide than images of another patient should be"
    return [
        _above(memorisation, "copy_rate", COPIES, "count as copies of training patches"),
        _above(memorisation, "slide_leak", LEAKS, near),
    ]


def _above(memorisation: pd.DataFrame, metric: str, expected: float, what: str) -> str:
    """A rate of MeDi that is clearly above what fresh real images have."""
    rows = pick(memorisation, metric=metric, arm="medi").dropna(subset="value")
    if rows.empty:
        return ""
    row = rows.iloc[0]
    if (row["low"] if known(row["low"]) else row["value"]) <= expected:
        return ""
    rate = f"{share(row['value'])}{interval(row['low'], row['high'], share)}"
    return f"{rate} of MeDi’s images {what} ({share(expected)} is expected of fresh real images)"


def _not_as_asked(control: pd.DataFrame | None) -> str:
    """Attributes that the probe sees in MeDi's images clearly less often than in real ones, on unseen combinations."""
    if control is None or control.empty:
        return ""
    rows = pick(control, metric="as_asked", scope="all", split="unseen", arm=["real", "medi"])
    if not {"real", "medi"} <= set(rows["arm"]):
        return ""
    wide = rows.pivot_table(index="attribute", columns="arm", values="value", sort=False)
    less = wide[wide["medi"] < AS_ASKED * wide["real"]]
    said = [
        f"the {short(str(name))} in {share(row['medi'])} ({share(row['real'])} in real ones)"
        for name, row in less.iterrows()
    ]
    return f"In MeDi’s images of unseen combinations, a probe recognises {_list(said)}" if said else ""


def _trainings(results: Results) -> str:
    if len(results.seeds) > 1:
        return ""
    return "Each model was trained once, so the intervals do not cover another training"


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
    return f"With MeDi’s images, recall on unseen combinations falls for {_list(worse)}" if worse else ""


def _seen_accuracy(results: Results) -> str:
    real, medi = (results.accuracy(arm, "seen") for arm in ("real", "medi"))
    if not (known(real) and known(medi) and medi < real):
        return ""
    return f"On seen combinations, MeDi’s images lower balanced accuracy from {real:.3f} to {medi:.3f}"


def _seen_distance(results: Results) -> str:
    seen, unseen = (results.distance("medi", split) for split in ("seen", "unseen"))
    if not (known(seen) and known(unseen) and seen > unseen):
        return ""
    return f"MeDi is farther from real images on seen combinations ({number(seen)}) than on unseen ones"


def _undefined(fidelity: pd.DataFrame) -> str:
    rows = pick(fidelity, metric="frechet", scope="combination", arm="medi")
    count = 0 if rows.empty else rows["value"].isna().sum()
    return f"MeDi’s distance is undefined in {count} of {len(rows)} combinations" if count else ""


def _pairs(fidelity: pd.DataFrame, attribute: str, split: str) -> pd.DataFrame:
    """One row per combination (of `split`, or all) that has both distances, in the columns cls and medi."""
    rows = pick(fidelity, metric="frechet", scope="combination")
    rows = pick(rows, split=split) if split else rows
    if rows.empty:
        return pd.DataFrame(columns=["cls", "medi"])
    keys = ["class", attribute]
    table = rows.pivot_table(index=keys, columns="arm", values="value").reset_index()
    return table.reindex(columns=[*keys, "cls", "medi"]).dropna(subset=["cls", "medi"])


def _reason(table: pd.DataFrame) -> str:
    """' (why)' from the first undefined row, or that the stage has not run."""
    if table.empty:
        return " (this stage has not run)"
    reasons: list[Any] = [reason for reason in table.loc[table["value"].isna(), "reason"] if reason]
    return f" ({reasons[0]})" if reasons else ""


def _list(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
