"""Patches beside each other, pixel for pixel: the paper's Figure 4, and pairs that look like copies."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from medi.cohort.pixels import Pixels, resize
from medi.cohort.table import Cohort
from medi.figures.drawing import COLORS, LETTER, WIDTH, Cells, Drawing, arm_color, draw, frame
from medi.report.parts import arm_name, ordered, short

GRID_ROWS, GRID_CLASSES, GRID_PATCHES = 24, 6, 26  # more would not be seen
GRID_PIXELS, PAIR_PIXELS = 1_200_000, 600_000  # of all patches together: 2 to 3 MB; larger ones are resampled
PAIRS_A_ROW = 8
SOURCES = {"real": "real", "medi": "MeDi", "cls": "CLS"}
Sheet = UInt8[np.ndarray, "h w 4"]


def sample_grid(sheet: Cohort, attribute: str, held_out: Cells) -> str:
    """Real, MeDi and CLS patches side by side: a row per level of `attribute`, a block per class (Figure 4).

    sheet: a cohort with pixels whose table has the columns class, <attribute> and source ('real', 'medi', 'cls').
    """
    levels, classes = ordered(sheet.table[attribute])[:GRID_ROWS], ordered(sheet.table["class"])[:GRID_CLASSES]
    each = _patches_each(sheet.table, attribute, len(classes))
    sheet = _fitted(sheet, each * len(levels) * len(classes) * len(SOURCES), GRID_PIXELS)
    mosaic, left, top = _mosaic(sheet, attribute, levels, classes, each)
    names = max(len(short(level)) for level in levels) * LETTER + 0.15  # inches left for the row labels
    height = (WIDTH - names) * mosaic.shape[0] / mosaic.shape[1] + 0.5

    def work(figure: Drawing) -> None:
        figure.set_layout_engine("none")
        ax = figure.add_axes((names / WIDTH, 0.02, 1 - names / WIDTH - 0.005, 1 - 0.02 - 0.45 / height))
        ax.imshow(mosaic, interpolation="none", aspect="auto")
        ax.set_axis_off()
        _label_grid(ax, levels, classes, left, top, each * sheet.images.size)
        _mark_grid(ax, levels, classes, left, top, sheet.images.size, held_out)

    return draw("sample_grid", work, height)


def _fitted(sheet: Cohort, count: int, pixels: int) -> Cohort:
    """The same patches, so small that `count` of them have so many pixels: a report goes by mail."""
    size = min(sheet.images.size, int((pixels / max(count, 1)) ** 0.5))
    if size == sheet.images.size:
        return sheet
    return Cohort(sheet.table, sheet.schema, Pixels.of(resize(sheet.images[:], size)))


def _patches_each(table: pd.DataFrame, attribute: str, classes: int) -> int:
    """Patches per class, level and source: all there are, as far as they stay large enough to be seen."""
    most = int(table.groupby(["class", attribute, "source"]).size().max())
    return max(1, min(most, GRID_PATCHES // (classes * len(SOURCES)) or 1))


def _mosaic(
    sheet: Cohort, attribute: str, levels: Sequence[str], classes: Sequence[str], each: int
) -> tuple[Sheet, dict[tuple[str, str], int], dict[str, int]]:
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
            _put(mosaic, sheet.images[[row]][0], top[level], left[name, source] + i * (size + 1))
    return mosaic, left, top


def _put(mosaic: Sheet, patch: UInt8[np.ndarray, "size size 3"], y: int, x: int) -> None:
    size = len(patch)
    mosaic[y : y + size, x : x + size, :3] = patch
    mosaic[y : y + size, x : x + size, 3] = 255


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
        middle = (0, top[level] + step * 0.42)
        ax.annotate(short(level), middle, (-4, 0), textcoords="offset points", ha="right", va="center")
    most = 70 // len(classes)  # letters over a block
    for name in classes:
        above = {"textcoords": "offset points", "fontsize": 10, "fontweight": "bold"}
        ax.annotate(short(name, most), (left[name, "real"], 0), (0, 18), **above)
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
                ax.add_patch(frame(x - pad, top[level] - 0.5 - pad, width + 2 * pad, size + 2 * pad))


def contact_sheet(pairs: Cohort, notes: dict[tuple[str, str], str]) -> str:
    """Pairs of a synthetic patch (left) and the training patch that it resembles most (right), by rank.

    pairs: a cohort with the columns rank, arm and role ('synthetic', 'training'); notes: (arm, rank) -> words below.
    """
    found = _pairs(pairs)
    pairs = _fitted(pairs, 2 * len(found), PAIR_PIXELS)
    mosaic, places = _pair_mosaic(pairs, found)
    rows = -(-len(found) // PAIRS_A_ROW)
    height = rows * (WIDTH * 0.97 / PAIRS_A_ROW / 2 + 0.42)

    def work(figure: Drawing) -> None:
        figure.set_layout_engine("none")
        ax = figure.add_axes((0.005, 0.01, 0.99, 0.98))
        ax.imshow(mosaic, interpolation="none", aspect="auto")
        ax.set_axis_off()
        for (arm, rank), (y, x) in places.items():
            ax.annotate(f"{rank} · {arm_name(arm)}", (x, y), (0, -3), **_below(arm_color(arm)))
            ax.annotate(short(notes.get((arm, rank), ""), 24), (x, y), (0, -14), **_below(COLORS["muted"]))

    return draw("contact_sheet", work, height)


def _below(color: str) -> dict[str, object]:
    return {"textcoords": "offset points", "ha": "left", "va": "top", "fontsize": 8, "color": color}


def _pairs(pairs: Cohort) -> dict[tuple[str, str], dict[str, int]]:
    """The row of the synthetic and of the training patch of each (arm, rank), by rank."""
    table = pairs.table
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row, key in enumerate(zip(table["arm"].astype(str), table["rank"].astype(str), table["role"])):
        found.setdefault((key[0], key[1]), {})[key[2]] = row
    whole = {key: rows for key, rows in found.items() if {"synthetic", "training"} <= set(rows)}
    return dict(sorted(whole.items(), key=lambda item: (float(item[0][1]), item[0][0])))


def _pair_mosaic(
    pairs: Cohort, found: dict[tuple[str, str], dict[str, int]]
) -> tuple[Sheet, dict[tuple[str, str], tuple[int, int]]]:
    """All pairs on one transparent sheet, and the lower left corner of each."""
    size = pairs.images.size
    gap, words = max(2, size // 8), round(0.42 * 2 * PAIRS_A_ROW * size / WIDTH)
    wide, high = 2 * size + 1 + 2 * gap, size + words
    rows = -(-len(found) // PAIRS_A_ROW)
    mosaic = np.zeros((rows * high, PAIRS_A_ROW * wide, 4), dtype=np.uint8)
    places = {}
    for i, (key, pair) in enumerate(found.items()):
        y, x = i // PAIRS_A_ROW * high, i % PAIRS_A_ROW * wide
        _put(mosaic, pairs.images[[pair["synthetic"]]][0], y, x)
        _put(mosaic, pairs.images[[pair["training"]]][0], y, x + size + 1)
        places[key] = (y + size, x)
    return mosaic, places
