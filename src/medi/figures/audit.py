"""The two figures of an audit (the paper's Figure 2): patches per class and level, and shares of other attributes.

Both take the table `counts` of an audit: by, group, attribute, level, patches.
"""

from typing import Any

import numpy as np
import pandas as pd

HEAT_CAP = 1600  # patches, the top of the paper's colour scale
HEAT_LEVELS = 1000  # columns of the heat map
SHOWN = 60  # names on an axis
LEGEND = 10  # levels in a stack


def counts_map(counts: pd.DataFrame) -> Any:
    """Patches per class and level of the first attribute (Figure 2 left), or None without attributes."""
    from matplotlib.figure import Figure

    if counts.empty:
        return None
    name = counts["attribute"].iloc[0]
    rows = counts[(counts["by"] == "class") & (counts["attribute"] == name)]
    grid = rows.pivot_table(index="group", columns="level", values="patches", fill_value=0)
    levels = grid.shape[1]
    grid = grid[grid.sum().nlargest(HEAT_LEVELS).index.sort_values()]
    figure = Figure(figsize=(min(4 + 0.2 * grid.shape[1], 30), min(2 + 0.25 * grid.shape[0], 20)), layout="constrained")
    axes = figure.subplots()
    top = min(HEAT_CAP, int(grid.to_numpy().max()))
    filled = np.ma.masked_equal(grid.to_numpy(), 0)  # empty combinations stay white
    shown = axes.imshow(filled, vmin=0, vmax=top, aspect="auto", cmap="viridis", interpolation="nearest")
    capped = top == HEAT_CAP
    label = f"patches (colour ends at {top:,})" if capped else "patches"
    figure.colorbar(shown, ax=axes, label=label, extend="max" if capped else "neither")
    _ticks(axes.set_yticks, grid.index)
    _ticks(axes.set_xticks, grid.columns, rotation=90)
    size = f" (the largest of {levels:,} levels)" if levels > HEAT_LEVELS else f" ({levels:,} levels)"
    axes.set_xlabel(name + size, parse_math=False)
    axes.set_ylabel("class")
    return figure


def _ticks(place: Any, levels: pd.Index, **style: Any) -> None:
    """Names on an axis while they can be read."""
    place([])
    if len(levels) <= SHOWN:
        labels = [level[:30] or "not known" for level in levels.astype(str)]
        place(range(len(levels)), labels, fontsize=7, parse_math=False, **style)


def attribute_bars(counts: pd.DataFrame) -> Any:
    """Shares of every further attribute per class and per level of the first (Figure 2 right), or None."""
    from matplotlib.figure import Figure

    first, *others = [*dict.fromkeys(counts["attribute"]), ""]
    others = [name for name in others if name]
    if not others:
        return None
    figure = Figure(figsize=(14, 3.2 * len(others)), layout="constrained")
    for axes, name in zip(figure.subplots(len(others), 2, squeeze=False), others):
        for panel, by in zip(axes, ("class", first)):
            rows = counts[(counts["by"] == by) & (counts["attribute"] == name)]
            _stack(panel, rows.pivot_table(index="group", columns="level", values="patches", fill_value=0))
            panel.set_title(f"{name} per {by}", parse_math=False)
    return figure


def _stack(axes: Any, grid: pd.DataFrame) -> None:
    """Stacked shares of the largest groups and levels."""
    largest = grid.sum(axis=1).nlargest(SHOWN).index
    levels = grid.sum().nlargest(LEGEND).index
    share = grid.loc[largest, levels].div(grid.loc[largest].sum(axis=1), axis=0)
    bottom = np.zeros(len(share))
    for level in levels:
        axes.bar(range(len(share)), share[level], bottom=bottom, label=str(level)[:30] or "not known")
        bottom += share[level].to_numpy()
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of patches")
    _ticks(axes.set_xticks, share.index, rotation=90)
    for text in axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1)).get_texts():
        text.set_parse_math(False)
