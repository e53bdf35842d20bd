"""The figures as SVG text, from tables alone; one drawing for light and dark: its colours are the page's variables."""

from medi.figures.charts import Axis, class_bars, curves, forest, panels, training_curves
from medi.figures.drawing import COLORS
from medi.figures.grids import GRID_CLASSES, GRID_ROWS, contact_sheet, sample_grid
from medi.figures.maps import COUNT_CAP, MAP_ROWS, confusion_maps, count_map, distance_maps, recall_maps

__all__ = [
    "COLORS",
    "COUNT_CAP",
    "GRID_CLASSES",
    "GRID_ROWS",
    "MAP_ROWS",
    "Axis",
    "class_bars",
    "confusion_maps",
    "contact_sheet",
    "count_map",
    "curves",
    "distance_maps",
    "forest",
    "panels",
    "recall_maps",
    "sample_grid",
    "training_curves",
]
