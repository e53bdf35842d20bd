"""Bars, dots with intervals and lines: the paper's Figure 3, forest plots, panels per level, curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medi.figures.drawing import COLORS, Drawing, above, arm_color, draw, name_columns, right_labels
from medi.report.parts import ARMS, arm_name, in_order, known, number, ordered, short, split_title, splits_of

ROW = 0.24  # inches per row of a forest plot
BLOCK = 0.85  # inches for the title and the axis of a block of rows
LEVELS = 40  # rows of a panel figure


@dataclass(frozen=True)
class Axis:
    """A column of a forest plot: which rows it holds, how it is called, and the value to compare with."""

    key: str
    title: str
    label: str = ""
    line: float | None = None
    line_name: str = ""


def class_bars(fidelity: pd.DataFrame, by: str = "class") -> str:
    """Fréchet distance per class, or level of `by`, of each arm; dotted are averages over whole classes (Figure 3).

    fidelity: columns arm, <by>, value, low, high, one row per arm and class.
    """
    return draw(f"bars {by}", lambda figure: _class_bars(figure.subplots(), fidelity, by), 3.4)


def _class_bars(ax: Drawing, fidelity: pd.DataFrame, by: str) -> None:
    arms, classes = in_order(fidelity["arm"]), ordered(fidelity[by])
    width = 0.8 / len(arms)
    averages = []
    whole = fidelity.pivot_table(index=by, columns="arm", values="value").reindex(columns=arms).dropna()
    for i, arm in enumerate(arms):
        rows = fidelity[fidelity["arm"] == arm].drop_duplicates(by).set_index(by).reindex(classes)
        places = np.arange(len(classes)) + (i - (len(arms) - 1) / 2) * width
        ax.bar(places, rows["value"].fillna(0), width * 0.92, color=arm_color(arm))
        ax.vlines(places, rows["low"].astype(float), rows["high"].astype(float), color=COLORS["ink"], linewidth=1)
        if len(classes) * len(arms) <= 40:
            for place, value in zip(places, rows["value"]):
                ax.annotate(number(value), (place, value if known(value) else 0), (0, 3), **above(COLORS["ink"]))
        if known(mean := whole[arm].mean()):
            ax.axhline(mean, color=arm_color(arm), linestyle=":", linewidth=1.4)
            averages.append((mean, f"{arm_name(arm)}: {number(mean)} on average", arm_color(arm)))
    name_columns(ax, classes, 7.5 / len(classes))
    ax.tick_params(bottom=False)
    ax.set(ylabel="Fréchet distance (lower is closer)", xlim=(-0.5, len(classes) - 0.5))
    right_labels(ax, averages)


def forest(
    table: pd.DataFrame, axes: Sequence[Axis], name: str = "forest", called: Callable[[str], str] = arm_name
) -> str:
    """Dots with intervals: a row per arm, a column of axes per `Axis`, a block of rows per group.

    table: columns arm, axis (the key of its Axis), group (a block's title, "" for none), value, low, high, reason;
    arms are drawn in the order in which they come in each group, and named by `called`.
    """
    blocks = [(str(group), rows) for group, rows in table.groupby("group", sort=False)]
    counts = [rows["arm"].nunique() for _, rows in blocks]
    heights = [BLOCK + ROW * count for count in counts]

    def work(figure: Drawing) -> None:
        grid = figure.subplots(len(blocks), len(axes), sharex="col", squeeze=False, height_ratios=heights).tolist()
        for line, (group, rows) in zip(grid, blocks):
            _forest_block(line, axes, rows)
            _name_rows(line[0], list(dict.fromkeys(rows["arm"])), called)
            _name_block(line[0], group, over_titles=line is grid[0])
        for top, bottom, axis in zip(grid[0], grid[-1], axes):
            top.set_title(axis.title)
            bottom.set_xlabel(axis.label)

    return draw(name, work, sum(heights))


def _forest_block(line: Sequence[Drawing], axes: Sequence[Axis], rows: pd.DataFrame) -> None:
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


def _name_rows(ax: Drawing, arms: Sequence[str], called: Callable[[str], str]) -> None:
    ax.set_yticks(range(len(arms)), [short(called(arm), 34) for arm in arms])
    for tick, arm in zip(ax.get_yticklabels(), arms):
        tick.set(color=arm_color(arm), fontweight="bold" if arm in COLORS else "normal")


def _name_block(ax: Drawing, group: str, over_titles: bool) -> None:
    if group:
        style = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 10, "va": "bottom"}
        ax.annotate(group, (0, 1), (0, 21 if over_titles else 5), fontweight="bold", **style)


def _reference(ax: Drawing, axis: Axis) -> None:
    if axis.line is None:
        return
    ax.axvline(axis.line, color=COLORS["muted"], linestyle=":", linewidth=1)
    if axis.line_name:
        place = (axis.line, 1)
        style = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points", "fontsize": 7.5}
        ax.annotate(axis.line_name, place, (3, -1), color=COLORS["muted"], va="top", **style)


def _dot(ax: Drawing, place: int, row: Any, letters: int) -> None:
    color = arm_color(row.arm)
    if not known(row.value):
        said = f"undefined ({row.reason})" if row.reason else "undefined"
        middle = {"transform": ax.get_yaxis_transform(), "ha": "center", "va": "center", "fontsize": 8}
        ax.text(0.5, place, short(said, letters), color=COLORS["muted"], **middle).set_in_layout(False)
        return
    if known(row.low) and known(row.high):
        ax.plot([row.low, row.high], [place, place], color=color, linewidth=2, solid_capstyle="round")
    ax.plot([row.value], [place], "o", color=color, markersize=5.5)
    ax.annotate(_decimals(row.value), (row.value, place), (0, 3.5), **above(COLORS["ink"]))


def _decimals(value: float) -> str:
    """'0.84', '−0.048', or three digits where decimals would hide the number."""
    if 0 < abs(value) < 0.0095 or abs(value) >= 10:
        return number(value)
    return f"{value:.{3 if abs(value) < 0.095 else 2}f}".replace("-", "−")


def panels(table: pd.DataFrame, attribute: str, axes: Sequence[Axis], arms: Sequence[str]) -> str:
    """A row per level of `attribute` with a dot and interval per arm: how results spread over sites.

    table: columns arm, axis, <attribute>, value, low, high.
    """
    levels = ordered(table[attribute])[:LEVELS]
    width = 0.7 / len(arms)

    def work(figure: Drawing) -> None:
        grid = figure.subplots(1, len(axes), sharex=True, sharey=True, squeeze=False)[0]
        for ax, axis in zip(grid, axes):
            _reference(ax, axis)
            for i, arm in enumerate(arms):
                rows = table[(table["axis"] == axis.key) & (table["arm"] == arm)].drop_duplicates(attribute)
                _level_dots(ax, rows.set_index(attribute).reindex(levels), (i - (len(arms) - 1) / 2) * width, arm)
            ax.set(title=axis.title, xlabel=axis.label, ylim=(len(levels) - 0.4, -0.6))
            ax.set_yticks(range(len(levels)), [short(level) for level in levels])
            ax.hlines(np.arange(len(levels) - 1) + 0.5, 0, 1, COLORS["line"], linewidth=0.5, **_across(ax))
            ax.spines["left"].set_visible(False)
            ax.tick_params(left=False)
        _legend(figure, arms)

    return draw("panels", work, 1.2 + len(levels) * max(0.3, 0.1 * len(arms)))


def _across(ax: Drawing) -> dict[str, Any]:
    return {"transform": ax.get_yaxis_transform()}


def _level_dots(ax: Drawing, rows: pd.DataFrame, shift: float, arm: str) -> None:
    places = np.arange(len(rows)) + shift
    ax.hlines(places, rows["low"].astype(float), rows["high"].astype(float), color=arm_color(arm), linewidth=1.4)
    ax.plot(rows["value"].astype(float), places, "o", color=arm_color(arm), markersize=4.5)


def _legend(figure: Drawing, arms: Sequence[str]) -> None:
    """The arms' names in their colours, above the axes."""
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], marker="o", linestyle="", color=arm_color(arm), markersize=5) for arm in arms]
    names = [short(arm_name(arm)) for arm in arms]
    colors = [arm_color(arm) for arm in arms]
    figure.legend(marks, names, loc="outside upper left", ncols=len(arms), frameon=False, labelcolor=colors)


def curves(table: pd.DataFrame, x_name: str, label: str, chance: float | None = None) -> str:
    """A line per arm over x (patches, ratio, sites), a panel per split; the band spans seeds, or the interval of one.

    table: columns arm, split, x, seed, value, low, high, of one metric.
    """
    splits = splits_of(table["split"])

    def work(figure: Drawing) -> None:
        grid = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
        for ax, split in zip(grid, splits):
            _curve_panel(ax, table[table["split"] == split], chance)
            ax.set(title=split_title(split), xlabel=x_name)
        grid[0].set_ylabel(label)
        _legend_lines(figure, in_order(table["arm"]))

    return draw(f"curves {x_name}", work, 3.4)


def _curve_panel(ax: Drawing, table: pd.DataFrame, chance: float | None) -> None:
    if chance is not None:
        ax.axhline(chance, color=COLORS["muted"], linestyle=":", linewidth=1)
    for i, arm in enumerate(in_order(table["arm"])):
        by_x = table[table["arm"] == arm].groupby("x")
        mean, low, high = by_x["value"].mean(), by_x["value"].min(), by_x["value"].max()
        if by_x.size().max() == 1:
            low, high = by_x["low"].min(), by_x["high"].max()
        places = mean.index.to_numpy(dtype=float)
        ax.fill_between(places, low.astype(float), high.astype(float), color=arm_color(arm), alpha=0.18, linewidth=0)
        ax.plot(places, mean, color=arm_color(arm), linewidth=1.6, marker="o", markersize=4, linestyle=_dash(arm, i))
    x = table["x"].astype(float)
    if len(x) and x.min() > 0 and x.max() / x.min() >= 8:
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(set(x)), [number(value) for value in sorted(set(x))])
        ax.tick_params(axis="x", which="minor", bottom=False)


def _dash(arm: str, index: int) -> Any:
    """Arms without a colour of their own are told apart by their dashes."""
    return "-" if arm in COLORS else (0, (1 + 2 * (index % 4), 1 + index // 4))


def _legend_lines(figure: Drawing, arms: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], color=arm_color(arm), linestyle=_dash(arm, i), linewidth=1.6) for i, arm in enumerate(arms)]
    names = [short(arm_name(arm)) for arm in arms]
    colors = [arm_color(arm) for arm in arms]
    options = {"frameon": False, "labelcolor": colors, "fontsize": 8.5}
    figure.legend(marks, names, loc="outside upper left", ncols=min(len(arms), 6), **options)


def training_curves(training: pd.DataFrame) -> str:
    """Loss over images seen, one line per model, dashed where on validation images.

    training: columns model, images, loss, validation_loss (NaN where not measured).
    """
    return draw("training_curves", lambda figure: _training_curves(figure.subplots(), training), 3.0)


def _training_curves(ax: Drawing, training: pd.DataFrame) -> None:
    ends = []
    for model, rows in training.groupby("model", sort=False):
        color, name = arm_color(str(model)), ARMS.get(str(model), str(model))
        for column, line, what in (("loss", "-", "training"), ("validation_loss", "--", "validation")):
            points = _thinned(rows[["images", column]].dropna())
            if len(points):
                ax.plot(points["images"], points[column], line, color=color, linewidth=1.6)
                ends.append((float(points[column].iloc[-1]), f"{name}, {what}", color))
    if (training["loss"] > 0).all():
        ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:.3g}")
    ax.yaxis.set_minor_formatter("{x:.2g}")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.tick_params(axis="y", which="both", labelsize=8, labelcolor=COLORS["muted"])
    ax.set(xlabel="images seen", ylabel="loss")
    ax.margins(x=0.01)
    right_labels(ax, ends)


def _thinned(points: pd.DataFrame, most: int = 200) -> pd.DataFrame:
    """Means of equal stretches of a long curve."""
    return points.groupby(np.arange(len(points)) * most // max(len(points), most)).mean()
