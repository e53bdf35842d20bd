"""Heat maps: patches per class and level (the paper's Figure 2), distances, recall, and what a probe recognised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from medi.figures.drawing import COLORS, LETTER, WIDTH, Cells, Drawing, arm_color, draw, frame, name_columns
from medi.report.parts import arm_name, in_order, number, ordered, probed_name, short

COUNT_CAP = 1600  # patches, the top of the paper's Figure 2
NUMBERED = 0.33  # inches of a column that can hold a number
MAP_ROWS = 80  # levels that a map shows; the table below it holds all
DISTANCE, COUNT, SHARE = ("magma_r", 0.0, 0.85), ("YlGnBu", 0.08, 0.97), ("Blues", 0.03, 1.0)


@dataclass(frozen=True)
class Map:
    """One map of a figure: its title and colour, and a value for every row and column."""

    title: str
    color: str
    matrix: pd.DataFrame


def count_map(counts: pd.DataFrame, attribute: str, held_out: Cells) -> str:
    """Patches per class and level of `attribute`, colour capped at 1,600 as in the paper's Figure 2.

    counts: columns class, level, n.
    """
    matrix = counts.pivot_table(index="level", columns="class", values="n", aggfunc="sum").fillna(0)
    matrix = matrix.reindex(index=ordered(matrix.index)[:MAP_ROWS], columns=ordered(matrix.columns))

    def work(figure: Drawing) -> None:
        from matplotlib.colors import Normalize

        norm = Normalize(0, min(COUNT_CAP, max(float(matrix.to_numpy().max()), 1.0)), clip=True)
        (ax,) = _maps(figure, [Map("", COLORS["ink"], matrix)], norm, COUNT, "patches", held_out, empty=0.0)
        ax.set_ylabel(attribute)

    return draw("count_map", work, _height(len(matrix)))


def distance_maps(fidelity: pd.DataFrame, attribute: str, held_out: Cells) -> str:
    """Fréchet distance of every class x level combination, one map per arm on one logarithmic colour scale.

    fidelity: columns arm, class, <attribute>, value, one row per arm and combination.
    """
    maps = _per_arm(fidelity, attribute)

    def work(figure: Drawing) -> None:
        from matplotlib.colors import LogNorm

        positive = fidelity["value"][fidelity["value"] > 0]
        norm = LogNorm(positive.min(), positive.max() * 1.0001) if len(positive) else LogNorm(1, 10)
        _maps(figure, maps, norm, DISTANCE, "Fréchet distance (log)", held_out)

    return draw("distance_maps", work, _height(len(maps[0].matrix)))


def recall_maps(utility: pd.DataFrame, attribute: str, held_out: Cells) -> str:
    """Share of test patches of every class x level combination that are recognised, one map per arm.

    utility: columns arm, class, <attribute>, value, one row per arm and combination.
    """
    maps = _per_arm(utility, attribute)
    work = _shares(maps, "recall", held_out)
    return draw("recall_maps", work, _height(len(maps[0].matrix)))


def confusion_maps(confusion: pd.DataFrame, attribute: str) -> str:
    """What a probe recognised (columns) in images of each requested level (rows), as a share of the row, per arm.

    confusion: columns arm, requested, recognised, share, of one attribute.
    """
    names = ordered([*confusion["requested"], *confusion["recognised"]])[:MAP_ROWS]
    maps = []
    for arm in in_order(confusion["arm"]):
        rows = confusion[confusion["arm"] == arm]
        matrix = rows.pivot_table(index="requested", columns="recognised", values="share", aggfunc="sum")
        requested = [name for name in names if name in matrix.index]
        filled = matrix.reindex(index=requested, columns=names).fillna(0.0).reindex(index=names)
        maps.append(Map(probed_name(arm), arm_color(arm), filled))
    height = _height(len(names)) + 0.2
    return draw(f"confusion {attribute}", _shares(maps, f"share of requested {attribute}", (), empty=0.0), height)


def _shares(maps: Sequence[Map], text: str, held_out: Cells, **options: Any) -> Callable[[Drawing], None]:
    """How maps of numbers between 0 and 1 are drawn."""

    def work(figure: Drawing) -> None:
        from matplotlib.colors import Normalize

        _maps(figure, maps, Normalize(0, 1), SHARE, text, held_out, write="{:.2f}".format, **options)

    return work


def _per_arm(table: pd.DataFrame, attribute: str) -> list[Map]:
    rows, columns = ordered(table[attribute])[:MAP_ROWS], ordered(table["class"])
    maps = []
    for arm in in_order(table["arm"]):
        part = table[table["arm"] == arm]
        matrix = part.pivot_table(index=attribute, columns="class", values="value", aggfunc="mean")
        maps.append(Map(arm_name(arm), arm_color(arm), matrix.reindex(index=rows, columns=columns)))
    return maps


def _maps(
    figure: Drawing,
    maps: Sequence[Map],
    norm: Drawing,
    scheme: tuple[str, float, float],
    text: str,
    held_out: Cells,
    empty: float | None = None,
    write: Callable[[Any], str] = number,
) -> list[Drawing]:
    """Maps side by side on one colour scale, which `text` names; their axes."""
    axes = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0].tolist()
    names = max(len(short(name)) for name in maps[0].matrix.index) * LETTER
    room = (WIDTH - names - 1.2) / (len(maps) * maps[0].matrix.shape[1])
    for ax, shown in zip(axes, maps):
        _heat(ax, shown.matrix, norm, colormap(*scheme), held_out, room, empty, write)
        ax.set_title(shown.title, color=shown.color, fontweight="bold")
    _scale(figure, axes, norm, colormap(*scheme), text)
    return axes


def _heat(
    ax: Drawing,
    matrix: pd.DataFrame,
    norm: Drawing,
    colors: Drawing,
    held_out: Cells,
    room: float,
    empty: float | None,
    write: Callable[[Any], str],
) -> None:
    """A cell per combination with its number; a frame marks a held-out one, an outline an empty or undefined one.

    room: inches per column; numbers are left to the table below the figure where they would not fit.
    """
    values = matrix.to_numpy(dtype=float)
    blank = ~np.isfinite(values) | (values == empty)
    faces = np.where(blank[..., None], 0.0, colors(norm(values)))
    if room >= NUMBERED:
        _numbered_cells(ax, values, blank, faces, write)
    else:
        ax.imshow(faces, interpolation="none", aspect="auto")
    for row, column in np.ndindex(*values.shape):
        if (str(matrix.columns[column]), str(matrix.index[row])) in held_out:
            ax.add_patch(frame(column - 0.49, row - 0.48, 0.98, 0.96))
    for artist in (*ax.patches, *ax.texts):
        artist.set_in_layout(False)  # they lie within the axes: the layout need not measure each
    _label_cells(ax, matrix, room)


def _numbered_cells(
    ax: Drawing,
    values: Float64[np.ndarray, "rows columns"],
    blank: Bool[np.ndarray, "rows columns"],
    faces: Float64[np.ndarray, "rows columns 4"],
    write: Callable[[Any], str],
) -> None:
    from matplotlib.patches import Rectangle

    for row, column in np.ndindex(*values.shape):
        value, face, corner = values[row, column], faces[row, column], (column - 0.46, row - 0.44)
        style = {"facecolor": "none", "edgecolor": COLORS["line"]} if blank[row, column] else {"facecolor": face}
        ax.add_patch(Rectangle(corner, 0.92, 0.88, linewidth=0.6 * blank[row, column], **style))
        color = COLORS["muted"] if blank[row, column] else readable(face)
        text = number(value) if blank[row, column] else write(value)
        ax.text(column, row, text, ha="center", va="center_baseline", fontsize=8, color=color)


def _label_cells(ax: Drawing, matrix: pd.DataFrame, room: float) -> None:
    columns, rows = [str(name) for name in matrix.columns], [short(str(name)) for name in matrix.index]
    name_columns(ax, columns, room)
    ax.set_yticks(range(len(rows)), rows, fontsize=9 if len(rows) <= 40 else 6)
    ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(rows) - 0.45, -0.55))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _scale(figure: Drawing, axes: Sequence[Drawing], norm: Drawing, colors: Drawing, text: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    log = LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else None
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=list(axes), ticks=log, fraction=0.025, pad=0.015, label=text)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter("{x:,.4g}")  # plain numbers: powers would need mathematical type
    bar.ax.yaxis.set_minor_formatter("")
    bar.solids.set_edgecolor("face")


def colormap(name: str, low: float, high: float) -> Drawing:
    """A part of a perceptually uniform map that colour-blind readers can order."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(low, high, 64)))


def readable(face: Any) -> str:
    """Black or white, whichever contrasts more with this colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in face[:3]]
    return "#000000" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.179 else "#ffffff"


def _height(rows: int) -> float:
    return 0.7 + rows * (0.3 if rows <= 40 else 0.15)
