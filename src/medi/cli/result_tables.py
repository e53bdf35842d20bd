"""Result tables on a terminal: distances by place, accuracies by training set, differences with their intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from medi.cli.terminal import console, printable, say
from medi.core.claims import of_no_combination
from medi.core.numbers import digits

if TYPE_CHECKING:
    import pandas as pd

NOTES = 8  # shown; the tables have all
SHORT = {"worst_five": "five worst", "unseen_sites": "unseen sites"}
LONGEST = 16  # letters of a heading that is never broken


def show_places(found: "pd.DataFrame", over: Sequence[str], title: str) -> None:
    """A row per place, a column per set of patches; reasons of what is undefined below."""
    places = [column for column in ("scope", *over, "split") if column in found]
    table = Table(title=printable(title), title_justify="left")
    for name in places:
        table.add_column(name, min_width=min(len(name), LONGEST))
    sets = list(dict.fromkeys(found["arm"]))
    for name in sets:
        table.add_column(printable(name), justify="right")
    table.add_column("n", justify="right")
    for place, rows in found.groupby(places, sort=False):
        values = dict(zip(rows["arm"], rows["value"]))
        shown = ["" if values[name] != values[name] else digits(values[name]) for name in sets]
        table.add_row(*(printable(str(part)) for part in place), *shown, f"{rows['n_real'].iloc[0]:,}")
    console.print(table)
    reasons = _reasons(found)
    for reason in reasons[:NOTES]:
        say(f"  note: {reason}")
    if len(reasons) > NOTES:
        say(f"  {len(reasons) - NOTES} more notes in the column reason")


def show_heads(heads: "pd.DataFrame", title: str) -> None:
    """The primary endpoint: a row per training set, a column per head, and what may be said of the generated ones."""
    from medi.figures.names import head_name
    from medi.report.heads import by_head, heads_sentences
    from medi.report.remedies import called

    found = by_head(heads)
    table = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("training set", overflow="fold")
    for name in found:
        table.add_column(printable(head_name(str(name))), justify="right")
    for arm, values in found.iterrows():
        shown = ["-" if value != value else f"{value:.3f}" for value in values]
        table.add_row(printable(called(str(arm))), *shown)
    console.print(table)
    for text in heads_sentences(heads):
        say(printable(text))


def show_sweep(found: "pd.DataFrame", title: str) -> None:
    """A row per training set and head, a column per strength of confounding, as `medi.sweep` gives them."""
    table = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("training set", overflow="fold")
    table.add_column("head", overflow="fold")
    for name in list(found)[2:]:
        table.add_column(str(name), justify="right", no_wrap=True)
    for arm, head, *values in found.itertuples(index=False, name=None):
        shown = ["-" if value != value else f"{value:.3f}" for value in values]
        table.add_row(printable(arm), printable(head), *shown)
    console.print(table)


def show_recommended(found: "pd.DataFrame") -> None:
    """A row per remedy, the best first, as `medi.recommend` gives them; below them what is noted of each set."""
    from medi.figures.names import arm_name, head_name

    names = {"value": "left out of training", "gain": "gain", "true": "true hold-out"}
    shown = {name: title for name, title in names.items() if name in found}
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in ("training set", "head"):
        table.add_column(title, overflow="fold")
    for title in shown.values():
        table.add_column(title, justify="right", no_wrap=True)
    limits = {"value": ("low", "high"), "gain": ("gain_low", "gain_high")}
    for row in found.to_dict("records"):
        figures = (_figure(row[name], *(row[end] for end in limits.get(name, ()))) for name in shown)
        table.add_row(printable(arm_name(row["set"])), printable(head_name(row["head"])) or "-", *figures)
    console.print(table)
    for reason, rows in found[found["reason"] != ""].groupby("reason", sort=False):
        sets = ", ".join(dict.fromkeys(map(arm_name, rows["set"])))
        say(f"  note: {sets}: {reason}")


def _figure(value: float, low: float = float("nan"), high: float = float("nan")) -> str:
    """A figure with its interval where there is one, or a dash."""
    if value != value:
        return "-"
    return f"{value:.3f}" + ("" if low != low else f" [{low:.3f}, {high:.3f}]")


def show_remedies(found: "pd.DataFrame", title: str) -> None:
    """The headline table: a row per training set, as `medi.report.remedies.remedies` gives it; chance is the last."""
    from medi.report.remedies import NEW_SITES, called

    table = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("training set", overflow="fold")
    table.add_column("needs", overflow="fold")
    beside = [name for name in ("unseen", "seen", NEW_SITES, "worst_five") if name in found]
    for name in ("all combinations", *(SHORT.get(name, name) for name in beside)):
        table.add_column(name, justify="right", no_wrap=True)
    row: Any
    for row in found.astype(dict.fromkeys(["value", "low", "high", *beside], float)).itertuples():  # null is NaN
        limits = f" [{row.low:.3f}, {row.high:.3f}]" if row.low == row.low else ""
        shown = [f"{row.value:.3f}{limits}", *(f"{getattr(row, name):.3f}" for name in beside)]
        table.add_row(printable(called(row.arm)), row.needs, *(text.replace("nan", "-") for text in shown))
    console.print(table)
    for note in of_no_combination(found["reason"]):
        say(f"  note: {note}")


def show_differences(found: "pd.DataFrame", metric: str, scopes: Sequence[str]) -> None:
    """The paired differences, with their intervals."""
    rows: Any = found[(found["metric"] == metric) & found["scope"].isin(scopes)].itertuples()
    for row in rows:
        if row.value != row.value:
            say(f"{row.arm} - {row.against}, {row.scope.replace('_', ' ')} {row.split}: {with_interval(row)}")
            continue
        interval = "no interval" if row.low != row.low else f"95 % [{digits(row.low)}, {digits(row.high)}]"
        say(f"{row.arm} - {row.against}, {row.scope.replace('_', ' ')} {row.split}: {digits(row.value)}, {interval}")


def with_interval(row: Any) -> str:
    """A figure with its interval, or why it is undefined (P7)."""
    if row.value != row.value:
        return f"undefined ({row.reason})"
    return f"{row.value:.3f}" + ("" if row.low != row.low else f", 95 % [{row.low:.3f}, {row.high:.3f}]")


def _reasons(found: "pd.DataFrame") -> list[str]:
    return list(dict.fromkeys(reason for reason in found["reason"] if reason))
