"""What all figures share: the palette, matplotlib's style, marks, and the way from a figure to SVG text.

Figures are drawn in the light colours of a report's page. As SVG text these colours become variables of the page's
stylesheet, so that one figure serves a light page and a dark one.
"""

import io
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medi.figures.names import short

Combinations = Collection[tuple[str, str]]  # (class, level)

COLORS = {  # variable of report.css -> its value on a light page
    "ink": "#1c1f24",
    "muted": "#59606b",
    "line": "#d3d7dd",
    "real": "#3a4049",
    "floor": "#636a75",
    "cls": "#b34e00",
    "medi": "#006bab",
    "oracle": "#00734f",
}
STYLE = {
    "text.parse_math": False,  # a $ in a level's name is a $
    "font.family": "DejaVu Sans",  # matplotlib's own; for "sans-serif", ten fonts are looked for at every text
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
WIDTH = 10.0  # inches; the page scales a figure to its column
LETTER = 0.075  # inches of a letter at 9 points


class Drawing(Figure):
    """A matplotlib figure in our style, which a notebook shows by itself, without pyplot."""

    def draw(self, renderer: Any) -> None:
        """Ticks come to be only now: they need the style as well."""
        with matplotlib.rc_context(STYLE):
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png")
        return out.getvalue()


@contextmanager
def drawing(name: str, height: float) -> Iterator[Drawing]:
    """An empty figure of WIDTH x height inches, to be filled within this block. `name` becomes its label."""
    with matplotlib.rc_context(STYLE):
        figure = Drawing(figsize=(WIDTH, height), layout="constrained")
        figure.set_label(name)
        yield figure


def arm_color(arm: str) -> str:
    """An arm's own colour; arms without one are drawn in ink."""
    return COLORS.get(arm, COLORS["ink"])


def write_above(ax: Axes, text: str, place: tuple[float, float], points: float) -> None:
    """A small number over a mark."""
    over = partial(ax.annotate, textcoords="offset points", ha="center", va="bottom")
    over(text, place, (0, points), fontsize=7.5, color=COLORS["ink"])


def frame(x: float, y: float, width: float, height: float) -> Rectangle:
    """The mark of a combination that no model has seen."""
    return Rectangle((x, y), width, height, fill=False, edgecolor=COLORS["ink"], linewidth=1.8)


def right_labels(ax: Axes, entries: Sequence[tuple[float, str, str]], step: float = 0.085) -> None:
    """Direct labels (value, text, colour) right of the axes, moved apart where they would touch."""
    low, high = ax.get_ylim()
    log = ax.get_yscale() == "log"
    floor = -np.inf
    for value, text, color in sorted(entries):
        place = np.log(value / low) / np.log(high / low) if log else (value - low) / (high - low)
        floor = max(place, floor + step)
        ax.text(1.01, floor, text, color=color, fontweight="bold", transform=ax.transAxes, va="center")


def name_columns(ax: Axes, names: Sequence[str], room: float) -> None:
    """Names below the axes, tilted where one is wider than its `room` in inches."""
    texts = [short(name) for name in names]
    ax.set_xticks(range(len(texts)), texts, color=COLORS["ink"])
    if max(map(len, texts)) * LETTER <= room:
        return
    tilt = {"rotation": 40, "rotation_mode": "anchor", "ha": "right"}
    upright = {"rotation": 90, "fontsize": min(9.0, max(4.5, 68 * room))}  # points: names side by side do not touch
    for tick in ax.get_xticklabels():
        tick.set(**(tilt if room >= 0.2 else upright))


def to_svg(figure: Figure) -> str:
    """A figure as an SVG element: its text stays text, its colours are variables, its ids are its own.

    Two figures on one page need different labels: the ids come from the label.
    """
    out = io.StringIO()
    style = {"svg.hashsalt": figure.get_label(), "svg.fonttype": "none"}
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters that our font lacks
        with _laid_out(figure):
            figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _inline(out.getvalue())


@contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """The axes in their places: a figure with a layout would be drawn twice by savefig, once for the places alone."""
    engine = figure.get_layout_engine()
    if engine is not None:
        with matplotlib.rc_context(STYLE):
            engine.execute(figure)
        figure.set_layout_engine(None)
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


def _inline(svg: str) -> str:
    """matplotlib's file as an element of a page: no prolog, no addresses, no style that reaches outside."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| width="[^"]*pt"| height="[^"]*pt"', "", svg.replace("xlink:href", "href"))
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<text style="[^"]*?)font-family: [^;"]*; ', r"\1", svg)  # the page's own, a fifth of the size
    return re.sub(r'style="[^"]*"', _variables, svg)


def _variables(style: re.Match[str]) -> str:
    """The same style attribute with our colours as variables."""
    return re.sub("#[0-9a-f]{6}", lambda color: _VARIABLES.get(color[0], color[0]), style[0])


_VARIABLES = {color: f"var(--{name})" for name, color in COLORS.items()}
