"""What all figures share: the palette, matplotlib's style, marks, and the way from a drawing to SVG text.

matplotlib draws with stand-in colours, which become variables of the page's stylesheet: one drawing for light and dark.
"""

import io
import re
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from medi.report.parts import short

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
LETTER = 0.075  # inches of a letter at 9 points


def arm_color(arm: str) -> str:
    """An arm's own colour; arms without one are drawn in ink."""
    return COLORS.get(arm, COLORS["ink"])


def above(color: str) -> dict[str, Any]:
    return {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7.5, "color": color}


def frame(x: float, y: float, width: float, height: float) -> Drawing:
    """The mark of a combination that no model has seen."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, edgecolor=COLORS["ink"], linewidth=1.8)


def right_labels(ax: Drawing, entries: Sequence[tuple[float, str, str]], step: float = 0.085) -> None:
    """Direct labels (value, text, colour) right of the axes, moved apart where they would touch."""
    low, high = ax.get_ylim()
    log = ax.get_yscale() == "log"
    floor = -np.inf
    for value, text, color in sorted(entries):
        place = np.log(value / low) / np.log(high / low) if log else (value - low) / (high - low)
        floor = max(place, floor + step)
        ax.text(1.01, floor, text, color=color, fontweight="bold", transform=ax.transAxes, va="center")


def name_columns(ax: Drawing, names: Sequence[str], room: float) -> None:
    """Names below the axes, tilted where one is wider than its `room` in inches."""
    texts = [short(name) for name in names]
    ax.set_xticks(range(len(texts)), texts, color=COLORS["ink"])
    if max(map(len, texts)) * LETTER <= room:
        return
    tilt = {"rotation": 40, "rotation_mode": "anchor", "ha": "right"}
    upright = {"rotation": 90, "fontsize": min(9.0, max(4.5, 68 * room))}  # points: names side by side do not touch
    for tick in ax.get_xticklabels():
        tick.set(**(tilt if room >= 0.2 else upright))


def draw(name: str, work: Callable[[Drawing], None], height: float) -> str:
    """An SVG element of WIDTH x height inches whose colours are variables and whose ids are its own."""
    import matplotlib
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters that our font lacks
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        work(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _inline(out.getvalue())


def _inline(svg: str) -> str:
    """matplotlib's file as an element of a page: no prolog, no addresses, no style that reaches outside."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| width="[^"]*pt"| height="[^"]*pt"', "", svg.replace("xlink:href", "href"))
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<text style="[^"]*?)font-family: [^;"]*; ', r"\1", svg)  # the page's own, a fifth of the size
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg
