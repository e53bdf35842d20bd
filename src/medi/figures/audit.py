"""The two figures of an audit (the paper's Figure 2): patches per class and level, and shares of other attributes.

Both take the table `counts` of an audit: by, group, attribute, level, patches.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from medi.figures.drawing import Drawing, drawing, name_columns
from medi.figures.maps import count_map
from medi.figures.names import short

SHOWN = 60  # groups of a panel
LEGEND = 10  # levels in a stack


def counts_map(counts: pd.DataFrame) -> Drawing | None:
    """Patches per class and level of the first attribute (Figure 2 left), or None without attributes."""
    if counts.empty:
        return None
    name = str(counts["attribute"].iloc[0])
    rows = counts[(counts["by"] == "class") & (counts["attribute"] == name)]
    return count_map(rows.rename(columns={"group": "class", "patches": "n"}), name)


def attribute_bars(counts: pd.DataFrame) -> Drawing | None:
    """Shares of every further attribute per class and per level of the first (Figure 2 right), or None."""
    first, *others = [*dict.fromkeys(counts["attribute"]), ""]
    others = [str(name) for name in others if name]
    if not others:
        return None
    with drawing("attributes", 3.2 * len(others)) as figure:
        for axes, name in zip(figure.subplots(len(others), 2, squeeze=False), others):
            for panel, by in zip(axes, ("class", first)):
                rows = counts[(counts["by"] == by) & (counts["attribute"] == name)]
                _stack(panel, rows.pivot_table(index="group", columns="level", values="patches", fill_value=0))
                panel.set_title(f"{name} per {by}")
    return figure


def _stack(ax: Axes, grid: pd.DataFrame) -> None:
    """Stacked shares of the largest groups and levels."""
    largest = grid.sum(axis=1).nlargest(SHOWN).index
    levels = grid.sum().nlargest(LEGEND).index
    share = grid.loc[largest, levels].div(grid.loc[largest].sum(axis=1), axis=0)
    bottom = np.zeros(len(share))
    for level in levels:
        ax.bar(range(len(share)), share[level], bottom=bottom, label=short(str(level)))
        bottom += share[level].to_numpy()
    ax.set_ylim(0, 1)
    ax.set_ylabel("share of patches")
    name_columns(ax, [str(group) for group in share.index], 3.5 / max(len(share), 1))
    ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
