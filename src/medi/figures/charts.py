"""Bars, dots with intervals and lines: the paper's Figure 3, forest plots, panels per level, curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medi.figures.drawing import COLORS, Drawing, arm_color, drawing, name_columns, right_labels, write_above
from medi.figures.names import ARMS, arm_name, in_order, known, number, ordered, short, split_title, splits_of

ROW = 0.24  # inches per row of a forest plot
BLOCK = 0.85  # inches for the title and the axis of a block of rows
LEVELS = 40  # rows of a panel figure
NUMBERED = 40  # bars that have room for their numbers
HUES = ("medi", "cls", "oracle", "ink")  # of lines where no arm has a colour of its own
Line = tuple[str, str | tuple[float, Sequence[float]]]  # colour and dash, as matplotlib wants them


@dataclass(frozen=True)
class Axis:
    """A column of a forest plot: which rows it holds, how it is called, and the value to compare with."""

    key: str
    title: str
    label: str = ""
    line: float | None = None
    line_name: str = ""


# --- the paper's Figure 3 ---------------------------------------------------------------------------------------------


def class_bars(fidelity: pd.DataFrame, by: str = "class") -> Drawing:
    """Fréchet distance per class, or level of `by`, of each arm; dotted are averages over whole classes (Figure 3).

    fidelity: columns arm, <by>, value, low, high, one row per arm and class.
    """
    arms, classes = in_order(fidelity["arm"]), ordered(fidelity[by])
    width = 0.8 / len(arms)
    with drawing(f"bars {by}", 3.4) as figure:
        ax = figure.subplots()
        for i, arm in enumerate(arms):
            rows = fidelity[fidelity["arm"] == arm].drop_duplicates(by).set_index(by).reindex(classes)
            shift = (i - (len(arms) - 1) / 2) * width
            _bars(ax, rows, arm, shift, width)
            if len(classes) * len(arms) <= NUMBERED:
                _numbers(ax, rows, shift)
        name_columns(ax, classes, 7.5 / len(classes))
        ax.tick_params(bottom=False)
        ax.set(ylabel="Fréchet distance (lower is closer)", xlim=(-0.5, len(classes) - 0.5))
        whole = fidelity.pivot_table(index=by, columns="arm", values="value").reindex(columns=arms).dropna()
        right_labels(ax, [entry for arm in arms for entry in _average(ax, arm, whole[arm].mean())])
    return figure


def _bars(ax: Axes, rows: pd.DataFrame, arm: str, shift: float, width: float) -> None:
    """One arm's bars with intervals."""
    places = np.arange(len(rows)) + shift
    ax.bar(places, rows["value"].fillna(0), width * 0.92, color=arm_color(arm))
    ax.vlines(places, rows["low"].astype(float), rows["high"].astype(float), color=COLORS["ink"], linewidth=1)


def _numbers(ax: Axes, rows: pd.DataFrame, shift: float) -> None:
    for place, value in enumerate(rows["value"]):
        write_above(ax, number(value), (place + shift, value if known(value) else 0.0), 3.0)


def _average(ax: Axes, arm: str, mean: float) -> list[tuple[float, str, str]]:
    """A dotted line at an arm's average, and its label; nothing where it is not known."""
    if not known(mean):
        return []
    ax.axhline(mean, color=arm_color(arm), linestyle=":", linewidth=1.4)
    return [(mean, f"{arm_name(arm)}: {number(mean)} on average", arm_color(arm))]


# --- forest plots -----------------------------------------------------------------------------------------------------


def forest(
    table: pd.DataFrame, axes: Sequence[Axis], name: str = "forest", called: Callable[[str], str] = arm_name
) -> Drawing:
    """Dots with intervals: a row per arm, a column of axes per `Axis`, a block of rows per group.

    table: columns arm, axis (the key of its Axis), group (a block's title, "" for none), value, low, high, reason;
    arms are drawn in the order in which they come in each group, and named by `called`.
    """
    blocks = [(str(group), rows) for group, rows in table.groupby("group", sort=False)]
    heights = [BLOCK + ROW * rows["arm"].nunique() for _, rows in blocks]
    with drawing(name, sum(heights)) as figure:
        grid = figure.subplots(len(blocks), len(axes), sharex="col", squeeze=False, height_ratios=heights)
        for place, (group, rows) in enumerate(blocks):
            _forest_block(grid[place].tolist(), axes, rows)
            _name_rows(grid[place, 0], list(dict.fromkeys(rows["arm"])), called)
            _name_block(grid[place, 0], group, over_titles=place == 0)
        for top, bottom, axis in zip(grid[0], grid[-1], axes):
            top.set_title(axis.title)
            bottom.set_xlabel(axis.label)
    return figure


def _forest_block(line: Sequence[Axes], axes: Sequence[Axis], rows: pd.DataFrame) -> None:
    arms = list(dict.fromkeys(rows["arm"]))
    for ax, axis in zip(line, axes):
        _reference(ax, axis)
        for row in rows[rows["axis"] == axis.key].itertuples():
            _dot(ax, arms.index(row.arm), row, letters=90 // len(axes))
        ax.set_ylim(len(arms) - 0.4, -0.75)
        ax.set_yticks(range(len(arms)), [])
        ax.spines["left"].set_visible(False)
        ax.tick_params(left=False, labelbottom=True)
        ax.locator_params(axis="x", nbins=5 if len(axes) <= 3 else 3)
        ax.xaxis.set_major_formatter("{x:.3g}")
        ax.margins(x=0.08)


def _name_rows(ax: Axes, arms: Sequence[str], called: Callable[[str], str]) -> None:
    ax.set_yticks(range(len(arms)), [short(called(arm), 34) for arm in arms])
    for tick, arm in zip(ax.get_yticklabels(), arms):
        tick.set(color=arm_color(arm), fontweight="bold" if arm in COLORS else "normal")


def _name_block(ax: Axes, group: str, over_titles: bool) -> None:
    if group:
        write = partial(ax.annotate, xycoords="axes fraction", textcoords="offset points", va="bottom")
        write(group, (0, 1), (0, 21 if over_titles else 5), fontsize=10, fontweight="bold")


def _reference(ax: Axes, axis: Axis) -> None:
    """The dotted line of the value to compare with, and its name."""
    if axis.line is None:
        return
    ax.axvline(axis.line, color=COLORS["muted"], linestyle=":", linewidth=1)
    if axis.line_name:
        place = (axis.line, 1)
        write = partial(ax.annotate, xycoords=ax.get_xaxis_transform(), textcoords="offset points", fontsize=7.5)
        write(axis.line_name, place, (3, -1), color=COLORS["muted"], va="top")


def _dot(ax: Axes, place: int, row: Any, letters: int) -> None:
    color = arm_color(row.arm)
    if not known(row.value):
        said = f"undefined ({row.reason})" if row.reason else "undefined"
        write = partial(ax.text, transform=ax.get_yaxis_transform(), ha="center", va="center", fontsize=8)
        write(0.5, place, short(said, letters), color=COLORS["muted"]).set_in_layout(False)
        return
    if known(row.low) and known(row.high):
        ax.plot([row.low, row.high], [place, place], color=color, linewidth=2, solid_capstyle="round")
    ax.plot([row.value], [place], "o", color=color, markersize=5.5)
    write_above(ax, _decimals(row.value), (row.value, float(place)), 3.5)


def _decimals(value: float) -> str:
    """'0.84', '−0.048', or three digits where decimals would hide the number."""
    if 0 < abs(value) < 0.0095 or abs(value) >= 10:
        return number(value)
    return f"{value:.{3 if abs(value) < 0.095 else 2}f}".replace("-", "−")


# --- panels per level -------------------------------------------------------------------------------------------------


def panels(table: pd.DataFrame, attribute: str, axes: Sequence[Axis], arms: Sequence[str]) -> Drawing:
    """A row per level of `attribute` with a dot and interval per arm: how results spread over sites.

    table: columns arm, axis, <attribute>, value, low, high.
    """
    levels = ordered(table[attribute])[:LEVELS]
    with drawing("panels", 1.2 + len(levels) * max(0.3, 0.1 * len(arms))) as figure:
        grid = figure.subplots(1, len(axes), sharex=True, sharey=True, squeeze=False)[0]
        for ax, axis in zip(grid, axes):
            _reference(ax, axis)
            _level_panel(ax, table[table["axis"] == axis.key], attribute, levels, arms)
            ax.set(title=axis.title, xlabel=axis.label)
        _legend(figure, arms)
    return figure


def _level_panel(ax: Axes, table: pd.DataFrame, attribute: str, levels: list[str], arms: Sequence[str]) -> None:
    width = 0.7 / len(arms)
    for i, arm in enumerate(arms):
        rows = table[table["arm"] == arm].drop_duplicates(attribute).set_index(attribute).reindex(levels)
        _level_dots(ax, rows, (i - (len(arms) - 1) / 2) * width, arm)
    ax.set_ylim(len(levels) - 0.4, -0.6)
    ax.set_yticks(range(len(levels)), [short(level) for level in levels])
    between, across = np.arange(len(levels) - 1) + 0.5, ax.get_yaxis_transform()
    ax.hlines(between, 0, 1, COLORS["line"], linewidth=0.5, transform=across)
    ax.spines["left"].set_visible(False)
    ax.tick_params(left=False)


def _level_dots(ax: Axes, rows: pd.DataFrame, shift: float, arm: str) -> None:
    places = np.arange(len(rows)) + shift
    ax.hlines(places, rows["low"].astype(float), rows["high"].astype(float), color=arm_color(arm), linewidth=1.4)
    ax.plot(rows["value"].astype(float), places, "o", color=arm_color(arm), markersize=4.5)


def _legend(figure: Figure, arms: Sequence[str]) -> None:
    """The arms' names in their colours, above the axes."""
    marks = [Line2D([], [], marker="o", linestyle="", color=arm_color(arm), markersize=5) for arm in arms]
    _above_axes(figure, marks, arms, len(arms), 9.0)


def _above_axes(figure: Figure, marks: list[Line2D], arms: Sequence[str], columns: int, fontsize: float) -> None:
    names, colors = [short(arm_name(arm)) for arm in arms], [arm_color(arm) for arm in arms]
    legend = partial(figure.legend, loc="outside upper left", frameon=False, labelcolor=colors)
    legend(marks, names, ncols=columns, fontsize=fontsize)


# --- curves -----------------------------------------------------------------------------------------------------------


def curves(table: pd.DataFrame, x_name: str, label: str, chance: float | None = None) -> Drawing:
    """A line per arm over x (patches, ratio, sites), a panel per split; the band spans seeds, or the interval of one.

    table: columns arm, split, x, seed, value, low, high, of one metric.
    """
    splits, lines = splits_of(table["split"]), _lines(in_order(table["arm"]))
    with drawing(f"curves {x_name}", 3.4) as figure:
        grid = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
        for ax, split in zip(grid, splits):
            _curve_panel(ax, table[table["split"] == split], lines, chance)
            ax.set(title=split_title(split), xlabel=x_name)
        grid[0].set_ylabel(label)
        marks = [Line2D([], [], color=color, linestyle=dash, linewidth=1.6) for color, dash in lines.values()]
        _above_axes(figure, marks, list(lines), min(len(lines), 6), 8.5)
    return figure


def _curve_panel(ax: Axes, table: pd.DataFrame, lines: dict[str, Line], chance: float | None) -> None:
    if chance is not None:
        ax.axhline(chance, color=COLORS["muted"], linestyle=":", linewidth=1)
    for arm in in_order(table["arm"]):
        color, dash = lines[arm]
        by_x = table[table["arm"] == arm].groupby("x")
        mean, low, high = by_x["value"].mean(), by_x["value"].min(), by_x["value"].max()
        if by_x.size().max() == 1:
            low, high = by_x["low"].min(), by_x["high"].max()
        places = mean.index.to_numpy(dtype=float)
        ax.fill_between(places, low.astype(float), high.astype(float), color=color, alpha=0.18, linewidth=0)
        ax.plot(places, mean, color=color, linewidth=1.6, marker="o", markersize=4, linestyle=dash)
    x = table["x"].astype(float)
    if len(x) and x.min() > 0 and x.max() / x.min() >= 8:
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(set(x)), [number(value) for value in sorted(set(x))])
        ax.tick_params(axis="x", which="minor", bottom=False)


def _lines(arms: Sequence[str]) -> dict[str, Line]:
    """Colour and dash of each arm, its own colour first.

    Arms without one are told apart by their dashes, in ink; where no arm has one (heads), by colours and then dashes.
    """
    own = {arm: (COLORS[arm], "-") for arm in arms if arm in COLORS}
    hues = ("ink",) if own else HUES
    others: dict[str, Line] = {}
    for i, arm in enumerate(arm for arm in arms if arm not in own):
        turn = i // len(hues) - (0 if own else 1)  # -1: the first arm of a colour, drawn through
        others[arm] = (COLORS[hues[i % len(hues)]], "-" if turn < 0 else (0.0, (1.0 + 2 * (turn % 4), 1.0 + turn // 4)))
    return {arm: (own | others)[arm] for arm in arms}


def training_curves(training: pd.DataFrame) -> Drawing:
    """Loss over images seen, one line per model, dashed where on validation images.

    training: columns model, images, loss, validation_loss (NaN where not measured).
    """
    with drawing("training_curves", 3.0) as figure:
        ax = figure.subplots()
        ends = [end for model, rows in training.groupby("model", sort=False) for end in _losses(ax, str(model), rows)]
        if (training["loss"] > 0).all():
            ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:.3g}")
        ax.yaxis.set_minor_formatter("{x:.2g}")
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.tick_params(axis="y", which="both", labelsize=8, labelcolor=COLORS["muted"])
        ax.set(xlabel="images seen", ylabel="loss")
        ax.margins(x=0.01)
        right_labels(ax, ends)
    return figure


def _losses(ax: Axes, model: str, rows: pd.DataFrame) -> list[tuple[float, str, str]]:
    """The lines of one model, and where they end."""
    color, name, ends = arm_color(model), ARMS.get(model, model), []
    for column, line, what in (("loss", "-", "training"), ("validation_loss", "--", "validation")):
        points = _thinned(rows[["images", column]].dropna())
        if len(points):
            ax.plot(points["images"], points[column], line, color=color, linewidth=1.6)
            ends.append((float(points[column].iloc[-1]), f"{name}, {what}", color))
    return ends


def _thinned(points: pd.DataFrame, most: int = 200) -> pd.DataFrame:
    """Means of equal stretches of a long curve."""
    return points.groupby(np.arange(len(points)) * most // max(len(points), most)).mean()
