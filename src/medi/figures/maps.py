"""Heat maps: patches per class and level (the paper's Figure 2), distances, recall, and what a probe recognised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from medi.figures.drawing import COLORS, LETTER, WIDTH, Combinations, Drawing, arm_color, drawing, frame, name_columns
from medi.figures.names import arm_name, in_order, number, ordered, probed_name, short

COUNT_CAP = 1600  # patches, the top of the paper's Figure 2
NUMBERED = 0.33  # inches of a column that can hold a number
MAP_ROWS = 80  # levels that a map shows; the table below it holds all


@dataclass(frozen=True)
class Scheme:
    """A part of a perceptually uniform colour map that colour-blind readers can order."""

    name: str
    low: float
    high: float

    @property
    def colors(self) -> ListedColormap:
        return ListedColormap(colormaps[self.name](np.linspace(self.low, self.high, 64)))


DISTANCE, COUNT, SHARE = Scheme("magma_r", 0.0, 0.85), Scheme("YlGnBu", 0.08, 0.97), Scheme("Blues", 0.03, 1.0)


@dataclass(frozen=True)
class Map:
    """One map of a figure: its title and colour, and a value for every row and column."""

    title: str
    color: str
    matrix: pd.DataFrame


@dataclass(frozen=True)
class Look:
    """How values become colours and text; `empty` is the value of a combination that holds nothing."""

    norm: Normalize
    colors: Colormap
    label: str
    framed: Combinations = ()
    empty: float | None = None
    write: Callable[[Any], str] = number


def count_map(counts: pd.DataFrame, attribute: str, framed: Combinations = ()) -> Drawing:
    """Patches per class and level of `attribute`, colour capped at 1,600 as in the paper's Figure 2.

    At most MAP_ROWS levels are shown, the largest. counts: columns class, level, n. framed: (class, level) of
    held-out combinations.
    """
    matrix = counts.pivot_table(index="level", columns="class", values="n", aggfunc="sum").fillna(0)
    largest = matrix.sum(axis=1).nlargest(MAP_ROWS).index
    matrix = matrix.reindex(index=ordered(largest), columns=ordered(matrix.columns))
    norm = Normalize(0, min(COUNT_CAP, max(float(matrix.to_numpy().max()), 1.0)), clip=True)
    with drawing(f"counts {attribute}", _height(len(matrix))) as figure:
        look = Look(norm, COUNT.colors, "patches", framed, empty=0.0)
        (ax,) = _maps(figure, [Map("", COLORS["ink"], matrix)], look)
        ax.set_ylabel(attribute)
    return figure


def distance_maps(fidelity: pd.DataFrame, attribute: str, framed: Combinations = ()) -> Drawing:
    """Fréchet distance of every class x level combination, one map per arm on one logarithmic colour scale.

    fidelity: columns arm, class, <attribute>, value, one row per arm and combination.
    """
    maps = _per_arm(fidelity, attribute)
    positive = fidelity["value"][fidelity["value"] > 0]
    norm = LogNorm(positive.min(), positive.max() * 1.0001) if len(positive) else LogNorm(1, 10)
    with drawing("distance_maps", _height(len(maps[0].matrix))) as figure:
        _maps(figure, maps, Look(norm, DISTANCE.colors, "Fréchet distance (log)", framed))
    return figure


def recall_maps(utility: pd.DataFrame, attribute: str, framed: Combinations = ()) -> Drawing:
    """Share of test patches of every class x level combination that are recognised, one map per arm.

    utility: columns arm, class, <attribute>, value, one row per arm and combination.
    """
    maps = _per_arm(utility, attribute)
    with drawing("recall_maps", _height(len(maps[0].matrix))) as figure:
        _maps(figure, maps, Look(Normalize(0, 1), SHARE.colors, "recall", framed, write="{:.2f}".format))
    return figure


def confusion_maps(confusion: pd.DataFrame, attribute: str) -> Drawing:
    """What a probe recognised (columns) in images of each requested level (rows), as a share of the row, per arm.

    confusion: columns arm, requested, recognised, share, of one attribute.
    """
    names = ordered([*confusion["requested"], *confusion["recognised"]])[:MAP_ROWS]
    arms = in_order(confusion["arm"])
    maps = [
        Map(probed_name(arm), arm_color(arm), _confusion(confusion[confusion["arm"] == arm], names)) for arm in arms
    ]
    look = Look(Normalize(0, 1), SHARE.colors, f"share of requested {attribute}", empty=0.0, write="{:.2f}".format)
    with drawing(f"confusion {attribute}", _height(len(names)) + 0.2) as figure:
        _maps(figure, maps, look)
    return figure


def _confusion(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Shares of one arm; a level that nobody requested has none (NaN), one that was never recognised has 0."""
    matrix = rows.pivot_table(index="requested", columns="recognised", values="share", aggfunc="sum")
    requested = [name for name in names if name in matrix.index]
    return matrix.reindex(index=requested, columns=names).fillna(0.0).reindex(index=names)


def _per_arm(table: pd.DataFrame, attribute: str) -> list[Map]:
    rows, columns = ordered(table[attribute])[:MAP_ROWS], ordered(table["class"])
    maps = []
    for arm in in_order(table["arm"]):
        part = table[table["arm"] == arm]
        matrix = part.pivot_table(index=attribute, columns="class", values="value", aggfunc="mean")
        maps.append(Map(arm_name(arm), arm_color(arm), matrix.reindex(index=rows, columns=columns)))
    return maps


def _maps(figure: Figure, maps: Sequence[Map], look: Look) -> list[Axes]:
    """Maps side by side on one colour scale; their axes."""
    axes = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0].tolist()
    names = max(len(short(name)) for name in maps[0].matrix.index) * LETTER
    room = (WIDTH - names - 1.2) / (len(maps) * maps[0].matrix.shape[1])
    for ax, shown in zip(axes, maps):
        _heat(ax, shown.matrix, look, room)
        ax.set_title(shown.title, color=shown.color, fontweight="bold")
    _scale(figure, axes, look)
    return axes


def _heat(ax: Axes, matrix: pd.DataFrame, look: Look, room: float) -> None:
    """A box per combination with its number; a frame marks a held-out one, an outline an empty or undefined one.

    room: inches per column; numbers are left to the table below the figure where they would not fit.
    """
    values = matrix.to_numpy(dtype=float)
    blank = ~np.isfinite(values) | (values == look.empty)
    faces = np.where(blank[..., None], 0.0, look.colors(look.norm(values)))
    if room >= NUMBERED:
        _numbered_boxes(ax, values, blank, faces, look.write)
    else:
        ax.imshow(faces, interpolation="none", aspect="auto")
    for row, column in np.ndindex(*values.shape):
        if (str(matrix.columns[column]), str(matrix.index[row])) in look.framed:
            ax.add_patch(frame(column - 0.49, row - 0.48, 0.98, 0.96))
    for artist in (*ax.patches, *ax.texts):
        artist.set_in_layout(False)  # they lie within the axes: the layout need not measure each
    _label_boxes(ax, matrix, room)


def _numbered_boxes(
    ax: Axes,
    values: Float64[np.ndarray, "rows columns"],
    blank: Bool[np.ndarray, "rows columns"],
    faces: Float64[np.ndarray, "rows columns 4"],
    write: Callable[[Any], str],
) -> None:
    for row, column in np.ndindex(*values.shape):
        value, face, corner = values[row, column], faces[row, column], (column - 0.46, row - 0.44)
        tile = Rectangle(corner, 0.92, 0.88, linewidth=0.6 * blank[row, column], facecolor=face)
        if blank[row, column]:
            tile.set(facecolor="none", edgecolor=COLORS["line"])
        ax.add_patch(tile)
        color = COLORS["muted"] if blank[row, column] else readable(face)
        text = number(value) if blank[row, column] else write(value)
        ax.text(column, row, text, ha="center", va="center_baseline", fontsize=8, color=color)


def _label_boxes(ax: Axes, matrix: pd.DataFrame, room: float) -> None:
    columns, rows = [str(name) for name in matrix.columns], [short(str(name)) for name in matrix.index]
    name_columns(ax, columns, room)
    ax.set_yticks(range(len(rows)), rows, fontsize=9 if len(rows) <= 40 else 6)
    ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(rows) - 0.45, -0.55))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _scale(figure: Figure, axes: Sequence[Axes], look: Look) -> None:
    log = LogLocator(subs=(1, 2, 5)) if isinstance(look.norm, LogNorm) else None
    colors = ScalarMappable(look.norm, look.colors)
    bar = figure.colorbar(colors, ax=list(axes), ticks=log, fraction=0.025, pad=0.015, label=look.label)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter("{x:,.4g}")  # plain numbers: powers would need mathematical type
    bar.ax.yaxis.set_minor_formatter("")
    if bar.solids is not None:  # no lines between the colours in a browser
        bar.solids.set_edgecolor("face")


def readable(face: Sequence[float] | Float64[np.ndarray, " 4"]) -> str:
    """Black or white, whichever contrasts more with this colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in face[:3]]
    return "#000000" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.179 else "#ffffff"


def _height(rows: int) -> float:
    return 0.7 + rows * (0.3 if rows <= 40 else 0.15)
