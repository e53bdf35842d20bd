"""What a page is made of: tables, pictures and sections, and how numbers are written. Undefined is a dash (P7)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote

import pandas as pd

DASH = "–"
ARMS = {"real": "real only", "floor": "floor (real vs real)", "cls": "CLS", "medi": "MeDi", "oracle": "oracle"}
OTHER_ARMS = {
    "combination_weights": "class × attribute weights",
    "group_dro": "GroupDRO",
    "dfr": "DFR",
    "coral": "CORAL",
    "mixup": "Mixup",
    "lisa": "LISA",
    "macenko": "Macenko normalisation",
    "reinhard": "Reinhard normalisation",
    "hed_jitter": "HED jitter",
    "randstainna": "RandStainNA",
    "transfer": "MeDi site transfer",
    "cls_only": "CLS only",
    "medi_only": "MeDi only",
    "medi_filtered": "MeDi, filtered",
}
SPLITS = ("seen", "unseen")
METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "mcc": "MCC",
    "frechet": "Fréchet distance",
    "mmd2": "MMD²",
    "kid": "KID",
}
COLUMNS = {
    "cls": "CLS",
    "medi": "MeDi",
    "cramers_v": "Cramér's V",
    "cramers_v_corrected": "Cramér's V, bias-corrected",
    "determination": "1 − H(class | attribute) / H(class)",
    "single_class": "share in levels of one class",
    "nmi": "NMI",
    "p_value": "p",
    "p_adjusted": "p, adjusted",
    "n_real": "n real",
    "images_per_second": "images/s",
}
ROWS_SHOWN = 200  # a browser table; the CSV beside it holds every row
CSV, PLAIN = "%.8g", ",;:/()-+="  # digits of the CSV (all of them lie in the Parquet tables); what an address may hold


@dataclass(frozen=True)
class Cell:
    """A value as it is read (`text`) and as it is sorted (`key`)."""

    text: str
    key: str
    number: bool


@dataclass(frozen=True)
class Table:
    """Column names and rows of cells; `csv` is the whole table as a data: address."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    csv: str
    total: int
    open: bool = True  # shown at once, or one click away
    kind: str = "table"  # or "facts": name and value, nothing to sort


@dataclass(frozen=True)
class Picture:
    """A figure: its SVG, what it shows for those who cannot see it, and the numbers behind it."""

    title: str
    svg: str
    alt: str
    caption: str
    data: Table
    kind: str = "picture"


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, a list that stands out (alarms), then tables and pictures."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    alarms: Sequence[str] = ()
    blocks: Sequence[Table | Picture] = ()


def known(value: Any) -> TypeGuard[float]:
    """Whether a number is there: None and NaN are undefined."""
    return value is not None and not pd.isna(value)


def number(value: Any) -> str:
    """Three significant digits, thousands apart, a true minus; a dash where undefined."""
    if not known(value):
        return DASH
    whole = float(value).is_integer() or abs(value) >= 1000
    return (f"{value:,.0f}" if whole else f"{value:.3g}").replace("-", "−")


def short(text: str, most: int = 22) -> str:
    """A name as it fits into a figure or a sentence; the whole one stands in the tables."""
    text = text or "not known"
    return text if len(text) <= most else text[: most - 1] + "…"


def share(value: Any) -> str:
    return f"{number(round(100 * value))} %" if known(value) else DASH


def interval(low: Any, high: Any, write: Any = number) -> str:
    """' [0.71, 0.80]', or nothing where no interval is known."""
    return f" [{write(low)}, {write(high)}]" if known(low) and known(high) else ""


def cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, (list, tuple, set)):
        return cell(", ".join(map(str, value)))
    if isinstance(value, str):
        return Cell(value, value, False)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", str(value), False)
    return Cell(number(value), repr(float(value)) if known(value) else "", True)


def label(column: str) -> str:
    return COLUMNS.get(column, METRICS.get(column, column.replace("_", " ")))


def probed_name(arm: str) -> str:
    """How an arm is called whose images a probe looks at."""
    return "real, held back" if arm == "real" else arm_name(arm)


def arm_name(arm: str) -> str:
    """How an arm is called."""
    return (ARMS | OTHER_ARMS).get(arm, arm.replace("_", " "))


def metric_name(metric: str) -> str:
    return METRICS.get(metric, metric.replace("_", " "))


def splits_of(values: Iterable[Any]) -> list[str]:
    """Each split once: seen, unseen, then the others as they come."""
    found = [str(value) for value in dict.fromkeys(values)]
    return [split for split in SPLITS if split in found] + [split for split in found if split not in SPLITS]


def split_title(split: str) -> str:
    return f"{split} combinations" if split in SPLITS else split.replace("_", " ")


def in_order(arms: Iterable[Any]) -> list[str]:
    """Each arm once: the known ones as in ARMS, then the others as they come."""
    found = [str(arm) for arm in dict.fromkeys(arms)]
    return [arm for arm in ARMS if arm in found] + [arm for arm in found if arm not in ARMS]


def table_of(title: str, frame: pd.DataFrame, open: bool = True, kind: str = "table") -> Table:
    """A table of a frame; columns without a word are left to the CSV; a Cell is shown as it is and saved by its key."""
    csv = frame.map(lambda value: value.key if isinstance(value, Cell) else value).to_csv(index=False, float_format=CSV)
    shown = frame.loc[:, ~(frame == "").all()] if len(frame) else frame
    rows = [[cell(value) for value in row] for row in shown.head(ROWS_SHOWN).astype(object).itertuples(index=False)]
    columns = [label(str(name)) for name in shown.columns]
    address = f"data:text/csv;charset=utf-8,{quote(csv, safe=PLAIN)}"
    return Table(title, columns, rows, address, len(frame), open, kind)


def facts(title: str, content: Mapping[str, Any], open: bool = True) -> Table:
    """A nested mapping as rows of name and value; levels are joined by dots."""
    frame = pd.DataFrame(list(_flat(content)), columns=["name", "value"], dtype=object)
    return table_of(title, frame, open, "facts")


def _flat(content: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", "none" if value == "" or (isinstance(value, (list, tuple)) and not value) else value


def ordered(names: Iterable[Any]) -> list[str]:
    """Each name once, as a reader sorts them: without regard to case, numbers by size (site 2 before site 10)."""
    return sorted(
        {str(name) for name in names},
        key=lambda name: [
            (len(part), part) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name.casefold())
        ],
    )
