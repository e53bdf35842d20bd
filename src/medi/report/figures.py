"""The figures as SVG text: the paper's Figure 2 (counts), 3 (distances), 4 (samples), training curves, a forest plot.

matplotlib draws with stand-in colours, which become variables of the page's stylesheet: one drawing for light and dark.
"""

import io
import re
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from medi.cohort.table import Cohort
from medi.report.parts import ARMS, known, number, ordered, short

Drawing = Any  # matplotlib's Figure, Axes and Colormap: imported late, so that the page's other parts start fast
Cells = Collection[tuple[str, str]]  # (class, level) of combinations

COLORS = {  # stand-in -> variable of report.css
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "real": "#040404",
    "floor": "#050505",
    "cls": "#060606",
    "medi": "#070707",
    "oracle": "#080808",
}
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and set in the reader's font
    "text.parse_math": False,  # a $ in a level's name is a $
    "font.size": 9,
    "text.color": COLORS["ink"],
    "axes.labelcolor": COLORS["muted"],
    "axes.edgecolor": COLORS["line"],
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": COLORS["line"],
    "ytick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["ink"],
    "axes.grid": False,
    "grid.color": COLORS["line"],
}
WIDTH = 10.0  # inches; the page scales the drawing to its column
COUNT_CAP = 1600  # patches, the top of the paper's Figure 2
GRID_ROWS, GRID_CLASSES, GRID_PATCHES = 24, 6, 26  # more would not be seen
SOURCES = {"real": "real", "medi": "MeDi", "cls": "CLS"}


def forest(utility: pd.DataFrame, chance: float) -> str:
    """Balanced accuracy per arm with its interval, seen and unseen combinations side by side.

    utility: columns arm, split, value, low, high, one row per arm and split; chance: 1 / number of classes.
    """
    return _draw("forest", lambda figure: _forest(figure, utility, chance), 2.5)


def _forest(figure: Drawing, utility: pd.DataFrame, chance: float) -> None:
    arms = [arm for arm in ("real", "cls", "medi", "oracle") if (utility["arm"] == arm).any()]
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, split in zip(axes, ("seen", "unseen")):
        ax.axvline(chance, color=COLORS["muted"], linestyle=":", linewidth=1)
        ax.annotate("chance", (chance, len(arms) - 0.45), (4, 0), **_beside(COLORS["muted"]))
        for row in utility[(utility["split"] == split) & utility["arm"].isin(arms)].itertuples():
            _dot(ax, arms.index(str(row.arm)), row)
        ax.set(title=f"{split} combinations", xlabel="balanced accuracy", ylim=(len(arms) - 0.4, -0.6))
        ax.spines["left"].set_visible(False)
        ax.tick_params(left=False)
    axes[0].set_yticks(range(len(arms)), [ARMS[arm] if arm in ("real", "oracle") else f"+ {ARMS[arm]}" for arm in arms])
    axes[0].set_xlim(right=min(1.02, axes[0].get_xlim()[1] + 0.02))
    for ax in axes:
        for tick, arm in zip(ax.get_yticklabels(), arms):
            tick.set(color=COLORS[arm], fontweight="bold")


def _dot(ax: Drawing, place: int, row: Any) -> None:
    if not known(row.value):
        ax.text(0.5, place, f"undefined ({row.reason})"[:60], color=COLORS["muted"], ha="center", va="center")
        return
    if known(row.low) and known(row.high):
        ax.plot([row.low, row.high], [place, place], color=COLORS[row.arm], linewidth=2.2, solid_capstyle="round")
    ax.plot([row.value], [place], "o", color=COLORS[row.arm], markersize=7)
    ax.annotate(f"{row.value:.2f}", (row.value, place), (0, 7), textcoords="offset points", ha="center", fontsize=8.5)


def _beside(color: str) -> dict[str, Any]:
    return {"textcoords": "offset points", "va": "bottom", "fontsize": 8, "color": color}


def class_bars(fidelity: pd.DataFrame) -> str:
    """Fréchet distance per class of floor, CLS and MeDi; dotted are averages over whole classes (Figure 3).

    fidelity: columns arm, class, value, low, high, one row per arm and class.
    """
    return _draw("class_bars", lambda figure: _class_bars(figure.subplots(), fidelity), 3.4)


def _class_bars(ax: Drawing, fidelity: pd.DataFrame) -> None:
    arms = [arm for arm in ("floor", "cls", "medi") if (fidelity["arm"] == arm).any()]
    classes = ordered(fidelity["class"])
    width = 0.8 / len(arms)
    averages = []
    whole = fidelity.pivot_table(index="class", columns="arm", values="value").reindex(columns=arms).dropna()
    for i, arm in enumerate(arms):
        rows = fidelity[fidelity["arm"] == arm].set_index("class").reindex(classes)
        places = np.arange(len(classes)) + (i - (len(arms) - 1) / 2) * width
        ax.bar(places, rows["value"].fillna(0), width * 0.92, color=COLORS[arm])
        _whiskers(ax, places, rows)
        for place, value in zip(places, rows["value"]):
            ax.annotate(number(value), (place, value if known(value) else 0), (0, 3), **_above(COLORS["ink"]))
        if known(mean := whole[arm].mean()):
            ax.axhline(mean, color=COLORS[arm], linestyle=":", linewidth=1.4)
            averages.append((mean, f"{ARMS[arm]}: {number(mean)} on average", COLORS[arm]))
    _name_classes(ax, classes, 7.5 / len(classes))
    ax.tick_params(bottom=False)
    ax.set(ylabel="Fréchet distance (lower is closer)", xlim=(-0.5, len(classes) - 0.5))
    _right_labels(ax, averages)


def _whiskers(ax: Drawing, places: Any, rows: pd.DataFrame) -> None:
    low, high = rows["low"].to_numpy(dtype=float), rows["high"].to_numpy(dtype=float)
    ax.vlines(places, low, high, color=COLORS["ink"], linewidth=1)


def _above(color: str) -> dict[str, Any]:
    return {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7.5, "color": color}


def _right_labels(ax: Drawing, entries: Sequence[tuple[float, str, str]]) -> None:
    """Direct labels right of the axes, moved apart where they would touch."""
    low, high = ax.get_ylim()
    log = ax.get_yscale() == "log"
    floor = -np.inf
    for value, text, color in sorted(entries):
        place = np.log(value / low) / np.log(high / low) if log else (value - low) / (high - low)
        floor = max(place, floor + 0.085)
        ax.text(1.01, floor, text, color=color, fontweight="bold", transform=ax.transAxes, va="center")


def distance_maps(fidelity: pd.DataFrame, attribute: str, held_out: Cells) -> str:
    """Fréchet distance of every class x level combination, one map per arm on one logarithmic colour scale.

    fidelity: columns arm, class, <attribute>, value, one row per arm and combination.
    """
    levels = fidelity[attribute].nunique()
    return _draw("distance_maps", lambda figure: _distance_maps(figure, fidelity, attribute, held_out), _height(levels))


def _distance_maps(figure: Drawing, fidelity: pd.DataFrame, attribute: str, held_out: Cells) -> None:
    from matplotlib.colors import LogNorm

    arms = [arm for arm in ("floor", "cls", "medi") if (fidelity["arm"] == arm).any()]
    positive = fidelity["value"][fidelity["value"] > 0]
    norm = LogNorm(positive.min(), positive.max() * 1.0001) if len(positive) else LogNorm(1, 10)
    axes = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0].tolist()
    rows, columns = ordered(fidelity[attribute]), ordered(fidelity["class"])
    room = 8.0 / (len(arms) * len(columns))
    for ax, arm in zip(axes, arms):
        part = fidelity[fidelity["arm"] == arm]
        matrix = part.pivot_table(index=attribute, columns="class", values="value", aggfunc="mean")
        _heat(ax, matrix.reindex(index=rows, columns=columns), norm, _colormap("magma_r", 0.0, 0.85), held_out, room)
        ax.set_title(ARMS[arm], color=COLORS[arm], fontweight="bold")
    _scale(figure, axes, norm, _colormap("magma_r", 0.0, 0.85), "Fréchet distance (log)")


def count_map(counts: pd.DataFrame, attribute: str, held_out: Cells) -> str:
    """Patches per class and level of `attribute`, colour capped at 1,600 as in the paper's Figure 2.

    counts: columns class, level, n.
    """
    levels = counts["level"].nunique()
    return _draw("count_map", lambda figure: _count_map(figure, counts, attribute, held_out), _height(levels))


def _count_map(figure: Drawing, counts: pd.DataFrame, attribute: str, held_out: Cells) -> None:
    from matplotlib.colors import Normalize

    matrix = counts.pivot_table(index="level", columns="class", values="n", aggfunc="sum").fillna(0)
    matrix = matrix.reindex(index=ordered(matrix.index), columns=ordered(matrix.columns))
    norm = Normalize(0, min(COUNT_CAP, max(float(matrix.to_numpy().max()), 1.0)), clip=True)
    ax = figure.subplots()
    _heat(ax, matrix, norm, _colormap("YlGnBu", 0.08, 0.97), held_out, 8.0 / matrix.shape[1], empty=0.0)
    ax.set_ylabel(attribute)
    _scale(figure, [ax], norm, _colormap("YlGnBu", 0.08, 0.97), "patches")


def _heat(
    ax: Drawing,
    matrix: pd.DataFrame,
    norm: Drawing,
    colormap: Drawing,
    held_out: Cells,
    room: float,
    empty: float | None = None,
) -> None:
    """A cell per combination with its number; a frame marks a held-out one, an outline an empty or undefined one.

    room: inches per column; numbers are left to the table below the figure where they would not fit.
    """
    from matplotlib.patches import Rectangle

    values = matrix.to_numpy(dtype=float)
    for row, column in np.ndindex(*values.shape):
        value, corner = values[row, column], (column - 0.46, row - 0.44)
        blank = not known(value) or value == empty
        face = "none" if blank else colormap(norm(value))
        edge = COLORS["line"] if blank else "none"
        ax.add_patch(Rectangle(corner, 0.92, 0.88, facecolor=face, edgecolor=edge, linewidth=0.6))
        if (str(matrix.columns[column]), str(matrix.index[row])) in held_out:
            ax.add_patch(_frame(column - 0.49, row - 0.48, 0.98, 0.96))
        if room >= 0.33:
            color = COLORS["muted"] if blank else _readable(face)
            ax.text(column, row, number(value), ha="center", va="center_baseline", fontsize=8, color=color)
    _label_cells(ax, matrix, room)


def _frame(x: float, y: float, width: float, height: float) -> Drawing:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, edgecolor=COLORS["ink"], linewidth=1.8)


def _label_cells(ax: Drawing, matrix: pd.DataFrame, room: float) -> None:
    columns, rows = list(matrix.columns), [short(name) for name in matrix.index]
    _name_classes(ax, columns, room)
    ax.set_yticks(range(len(rows)), rows, fontsize=9 if len(rows) <= 40 else 6)
    ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(rows) - 0.45, -0.55))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _name_classes(ax: Drawing, names: Sequence[str], room: float) -> None:
    """Class names below the axes, tilted where one is wider than its `room` in inches."""
    texts = [short(name) for name in names]
    ax.set_xticks(range(len(texts)), texts, color=COLORS["ink"])
    if max(map(len, texts)) * 0.075 > room:
        for tick in ax.get_xticklabels():
            tick.set(rotation=40, rotation_mode="anchor", ha="right")


def _scale(figure: Drawing, axes: Sequence[Drawing], norm: Drawing, colormap: Drawing, text: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    log = LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else None
    bar = figure.colorbar(
        ScalarMappable(norm, colormap), ax=list(axes), ticks=log, fraction=0.025, pad=0.015, label=text
    )
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter("{x:,.4g}")  # plain numbers: powers would need mathematical type
    bar.ax.yaxis.set_minor_formatter("")
    bar.solids.set_edgecolor("face")


def _colormap(name: str, low: float, high: float) -> Drawing:
    """A part of a perceptually uniform map that colour-blind readers can order."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(low, high, 64)))


def _readable(face: Any) -> str:
    """Black or white, whichever contrasts more with this colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in face[:3]]
    return "#000000" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.179 else "#ffffff"


def training_curves(training: pd.DataFrame) -> str:
    """Loss over images seen, one line per model, dashed where on validation images.

    training: columns model, images, loss, validation_loss (NaN where not measured).
    """
    return _draw("training_curves", lambda figure: _training_curves(figure.subplots(), training), 3.0)


def _training_curves(ax: Drawing, training: pd.DataFrame) -> None:
    ends = []
    for model, rows in training.groupby("model", sort=False):
        color, name = COLORS.get(str(model), COLORS["ink"]), ARMS.get(str(model), str(model))
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
    _right_labels(ax, ends)


def _thinned(points: pd.DataFrame, most: int = 200) -> pd.DataFrame:
    """Means of equal stretches of a long curve."""
    return points.groupby(np.arange(len(points)) * most // max(len(points), most)).mean()


def sample_grid(sheet: Cohort, attribute: str, held_out: Cells) -> str:
    """Real, MeDi and CLS patches side by side: a row per level of `attribute`, a block per class (Figure 4).

    sheet: a cohort with pixels whose table has the columns class, <attribute> and source ('real', 'medi', 'cls').
    """
    levels, classes = ordered(sheet.table[attribute])[:GRID_ROWS], ordered(sheet.table["class"])[:GRID_CLASSES]
    each = _patches_each(sheet.table, attribute, len(classes))
    mosaic, left, top = _mosaic(sheet, attribute, levels, classes, each)
    names = max(len(short(level)) for level in levels) * 0.075 + 0.15  # inches left for the row labels
    height = (WIDTH - names) * mosaic.shape[0] / mosaic.shape[1] + 0.5

    def draw(figure: Drawing) -> None:
        figure.set_layout_engine("none")
        ax = figure.add_axes((names / WIDTH, 0.02, 1 - names / WIDTH - 0.005, 1 - 0.02 - 0.45 / height))
        ax.imshow(mosaic, interpolation="none", aspect="auto")
        ax.set_axis_off()
        _label_grid(ax, levels, classes, left, top, each * sheet.images.size)
        _mark_grid(ax, levels, classes, left, top, sheet.images.size, held_out)

    return _draw("sample_grid", draw, height)


def _patches_each(table: pd.DataFrame, attribute: str, classes: int) -> int:
    """Patches per class, level and source: all there are, as far as they stay large enough to be seen."""
    most = int(table.groupby(["class", attribute, "source"]).size().max())
    return max(1, min(most, GRID_PATCHES // (classes * len(SOURCES)) or 1))


def _mosaic(
    sheet: Cohort, attribute: str, levels: Sequence[str], classes: Sequence[str], each: int
) -> tuple[UInt8[np.ndarray, "h w 4"], dict[tuple[str, str], int], dict[str, int]]:
    """All patches on one transparent sheet, the left edge of each class and source, and the top of each level."""
    size = sheet.images.size
    group, gap, block = each * (size + 1) - 1, max(2, size // 8), max(4, size // 2)
    step = len(SOURCES) * (group + gap) - gap + block
    left = {
        (name, source): i * step + j * (group + gap) + block // 4
        for i, name in enumerate(classes)
        for j, source in enumerate(SOURCES)
    }
    top = {level: i * (size + 2 * gap) + gap for i, level in enumerate(levels)}
    mosaic = np.zeros((len(levels) * (size + 2 * gap), len(classes) * step - block // 2, 4), dtype=np.uint8)
    place = sheet.table.groupby(["class", attribute, "source"]).cumcount()
    for row, (name, level, source, i) in enumerate(
        zip(*(sheet.table[c] for c in ("class", attribute, "source")), place)
    ):
        if i < each and (name, source) in left and level in top:
            y, x = top[level], left[name, source] + i * (size + 1)
            mosaic[y : y + size, x : x + size, :3] = sheet.images[[row]][0]
            mosaic[y : y + size, x : x + size, 3] = 255
    return mosaic, left, top


def _label_grid(
    ax: Drawing,
    levels: Sequence[str],
    classes: Sequence[str],
    left: dict[tuple[str, str], int],
    top: dict[str, int],
    group: int,
) -> None:
    step = top[levels[1]] - top[levels[0]] if len(levels) > 1 else group
    for level in levels:
        ax.annotate(
            short(level), (0, top[level] + step * 0.42), (-4, 0), textcoords="offset points", ha="right", va="center"
        )
    most = 70 // len(classes)  # letters over a block
    for name in classes:
        ax.annotate(
            short(name, most),
            (left[name, "real"], 0),
            (0, 18),
            textcoords="offset points",
            fontsize=10,
            fontweight="bold",
        )
        for source, text in SOURCES.items():
            place = (left[name, source] + group / 2, 0)
            ax.annotate(text, place, (0, 5), textcoords="offset points", ha="center", color=COLORS[source], fontsize=8)


def _mark_grid(
    ax: Drawing,
    levels: Sequence[str],
    classes: Sequence[str],
    left: dict[tuple[str, str], int],
    top: dict[str, int],
    size: int,
    held_out: Cells,
) -> None:
    each = (left[classes[0], "medi"] - left[classes[0], "real"]) // size * size
    pad = max(1, size // 10) * 0.7
    for name in classes:
        for level in levels:
            if (name, level) in held_out:
                x, width = left[name, "real"], left[name, "cls"] + each - left[name, "real"]
                ax.add_patch(_frame(x - pad, top[level] - 0.5 - pad, width + 2 * pad, size + 2 * pad))


def _height(rows: int) -> float:
    return 0.7 + rows * (0.3 if rows <= 40 else 0.15)


def _draw(name: str, draw: Callable[[Drawing], None], height: float) -> str:
    """An SVG element of WIDTH x height inches whose colours are variables and whose ids are its own."""
    import matplotlib
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters that our font lacks
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _inline(out.getvalue())


def _inline(svg: str) -> str:
    """matplotlib's file as an element of a page: no prolog, no addresses, no style that reaches outside."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| width="[^"]*pt"| height="[^"]*pt"', "", svg.replace("xlink:href", "href"))
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg
