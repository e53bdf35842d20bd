"""Figures from tables and arrays alone, as matplotlib figures; `to_svg` makes one a part of a page.

figure = distance_maps(table, "site", framed)   # in a notebook it shows itself
figure.savefig("maps.png"); svg = to_svg(figure)  # SVG text whose colours are variables of a page's stylesheet
"""

from medi.figures.charts import Axis, class_bars, curves, forest, panels, training_curves
from medi.figures.drawing import COLORS, Drawing, to_svg
from medi.figures.maps import COUNT_CAP, MAP_ROWS, confusion_maps, count_map, distance_maps, recall_maps
from medi.figures.patches import GRID_BLOCKS, GRID_ROWS, mosaic, pair_sheet, patch_grid, shown_patches

__all__ = [
    "COLORS",
    "COUNT_CAP",
    "GRID_BLOCKS",
    "GRID_ROWS",
    "MAP_ROWS",
    "Axis",
    "Drawing",
    "class_bars",
    "confusion_maps",
    "count_map",
    "curves",
    "distance_maps",
    "forest",
    "mosaic",
    "pair_sheet",
    "panels",
    "patch_grid",
    "recall_maps",
    "shown_patches",
    "to_svg",
    "training_curves",
]
