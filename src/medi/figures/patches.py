"""Patches beside each other, pixel for pixel: the paper's Figure 4, sheets of a level, and pairs that look alike."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Int64, UInt8
from matplotlib.axes import Axes
from PIL import Image

from medi.figures.drawing import COLORS, LETTER, WIDTH, Combinations, Drawing, arm_color, drawing, frame
from medi.figures.names import arm_name, ordered, short, source_name

GRID_ROWS, GRID_BLOCKS, GRID_PATCHES = 24, 6, 26  # more would not be seen
PAIRS_A_ROW = 8
SOURCES = ("real", "medi", "cls")  # as the paper shows them; others follow as they come
Patches = UInt8[np.ndarray, "n size size 3"]
Sheet = UInt8[np.ndarray, "h w 4"]  # transparent where no patch lies


@dataclass(frozen=True)
class Grid:
    """Where patches lie: a row per level, in it a block per class, in a block a group of `each` patches per source."""

    size: int  # pixels along a side of a patch
    each: int
    rows: Sequence[str]
    blocks: Sequence[str]
    sources: Sequence[str]

    @property
    def group(self) -> int:
        """Pixels across a group: its patches are one pixel apart."""
        return self.each * (self.size + 1) - 1

    @property
    def gap(self) -> int:
        """Pixels between two groups; rows are two such gaps apart."""
        return max(2, self.size // 8)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels down and across."""
        between = max(4, self.size // 2)
        return len(self.rows) * self._step_down, len(self.blocks) * self._step_across - between // 2

    @property
    def _step_down(self) -> int:
        return self.size + 2 * self.gap

    @property
    def _step_across(self) -> int:
        return len(self.sources) * (self.group + self.gap) - self.gap + max(4, self.size // 2)

    def top(self, row: str) -> int:
        """The first line of pixels of a row."""
        return self.rows.index(row) * self._step_down + self.gap

    def left(self, block: str, source: str) -> int:
        """The first column of pixels of a group."""
        inside = self.sources.index(source) * (self.group + self.gap) + max(4, self.size // 2) // 4
        return self.blocks.index(block) * self._step_across + inside

    def paste(self, images: Patches, places: Iterable[tuple[str, str, str]]) -> Sheet:
        """All patches at the places (row, block, source) where they belong, in turn within a group."""
        sheet = np.zeros((*self.shape, 4), dtype=np.uint8)
        filled: dict[tuple[str, str, str], int] = {}
        for image, (row, block, source) in zip(images, places):
            i = filled.setdefault((row, block, source), 0)
            filled[row, block, source] += 1
            _put(sheet, image, self.top(row), self.left(block, source) + i * (self.size + 1))
        return sheet


def patch_grid(
    images: Patches, table: pd.DataFrame, rows: str = "site", blocks: str = "class", framed: Combinations = ()
) -> Drawing:
    """Real and generated patches side by side (the paper's Figure 4).

    A row per level of the column `rows`, a block per level of the column `blocks` ("": one block without a name), in
    each block a group of patches per source. At most GRID_ROWS rows and GRID_BLOCKS blocks are shown.

    images: uint8 [n, size, size, 3]. table: n rows with the columns `rows`, `blocks` and source; the sources "real",
    "medi" and "cls" have their colours. framed: the (block, row) of combinations that no model has seen.
    A categorical column keeps the order of its categories; other levels are sorted.
    """
    chosen = shown_patches(table, rows, blocks)
    images, table = images[chosen], table.iloc[chosen]
    grid, places = _grid(images, table, rows, blocks)
    names = max(len(short(level)) for level in grid.rows) * LETTER + 0.15  # inches left for the row labels
    sheet = grid.paste(images, places)
    height = (WIDTH - names) * sheet.shape[0] / sheet.shape[1] + 0.5
    with drawing(f"patches {rows} {blocks}", height) as figure:
        figure.set_layout_engine("none")
        ax = figure.add_axes((names / WIDTH, 0.02, 1 - names / WIDTH - 0.005, 1 - 0.02 - 0.45 / height))
        ax.imshow(sheet, interpolation="none", aspect="auto")
        ax.set_axis_off()
        _label_rows(ax, grid)
        _label_blocks(ax, grid)
        _frame_blocks(ax, grid, framed)
    return figure


def shown_patches(table: pd.DataFrame, rows: str = "site", blocks: str = "class") -> Int64[np.ndarray, " n"]:
    """The places in `table` of the patches that `patch_grid` shows of it: to load or resample no others."""
    levels, names = _levels(table, rows)[:GRID_ROWS], _levels(table, blocks)[:GRID_BLOCKS]
    keys = [rows, *([blocks] if blocks else []), "source"]
    each = _patches_each(table, keys, len(names) * table["source"].nunique())
    keep = table[rows].astype(str).isin(levels) & (table.groupby(keys, observed=True).cumcount() < each)
    if blocks:
        keep &= table[blocks].astype(str).isin(names)
    return np.flatnonzero(keep.to_numpy())


def _patches_each(table: pd.DataFrame, keys: list[str], groups: int) -> int:
    """Patches of a group: all there are, as far as they stay large enough to be seen."""
    most = int(table.groupby(keys, observed=True).size().max())
    return max(1, min(most, GRID_PATCHES // max(groups, 1)))


def _grid(images: Patches, table: pd.DataFrame, rows: str, blocks: str) -> tuple[Grid, list[tuple[str, str, str]]]:
    """The grid of these patches, and the place of each."""
    named = table[blocks].astype(str).tolist() if blocks else [""] * len(table)
    places = list(zip(table[rows].astype(str), named, table["source"].astype(str)))
    each = pd.Series(places, dtype=object).value_counts().max()
    grid = Grid(images.shape[1], int(each), _levels(table, rows), _levels(table, blocks), _sources(table["source"]))
    return grid, places


def _levels(table: pd.DataFrame, column: str) -> list[str]:
    """The levels of a column that occur, in their order; one without a name where there is no column."""
    if not column:
        return [""]
    if isinstance(table[column].dtype, pd.CategoricalDtype):
        return [str(level) for level in table[column].cat.remove_unused_categories().cat.categories]
    return ordered(table[column])


def _sources(column: pd.Series) -> list[str]:
    found = [str(name) for name in dict.fromkeys(column)]
    return [name for name in SOURCES if name in found] + [name for name in found if name not in SOURCES]


def _put(sheet: Sheet, patch: UInt8[np.ndarray, "size size 3"], y: int, x: int) -> None:
    size = len(patch)
    sheet[y : y + size, x : x + size, :3] = patch
    sheet[y : y + size, x : x + size, 3] = 255


def _label_rows(ax: Axes, grid: Grid) -> None:
    for row in grid.rows:
        place = (0, grid.top(row) + grid.size / 2)
        ax.annotate(short(row), place, (-4, 0), textcoords="offset points", ha="right", va="center")


def _label_blocks(ax: Axes, grid: Grid) -> None:
    """The names of blocks, and below them those of the sources, where there are several."""
    most = 70 // len(grid.blocks)  # letters over a block
    over = partial(ax.annotate, textcoords="offset points")
    for block in grid.blocks:
        if block:
            start = (grid.left(block, grid.sources[0]), 0)
            over(short(block, most), start, (0, 18), fontsize=10, fontweight="bold")
        for source in grid.sources if len(grid.sources) > 1 else ():
            place = (grid.left(block, source) + grid.group / 2, 0)
            over(source_name(source), place, (0, 5), ha="center", color=arm_color(source), fontsize=8)


def _frame_blocks(ax: Axes, grid: Grid, framed: Combinations) -> None:
    pad, last = max(1, grid.size // 10) * 0.7, grid.sources[-1]
    for block in grid.blocks:
        x = grid.left(block, grid.sources[0])
        width = grid.left(block, last) + grid.group - x
        for row in grid.rows:
            if (block, row) in framed:
                ax.add_patch(frame(x - pad, grid.top(row) - 0.5 - pad, width + 2 * pad, grid.size + 2 * pad))


# --- one level as pixels alone ----------------------------------------------------------------------------------------


def mosaic(images: UInt8[np.ndarray, "r c h w 3"]) -> UInt8[np.ndarray, "y x 3"]:
    """r rows of c patches as one picture, without a gap."""
    rows, columns, height, width, _ = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


def png_address(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture as a data: address, which a page holds within itself."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- pairs that look alike --------------------------------------------------------------------------------------------

Pairs = dict[tuple[str, str], dict[str, int]]  # (arm, rank) -> role -> row


def pair_sheet(images: Patches, table: pd.DataFrame, notes: dict[tuple[str, str], str]) -> Drawing:
    """Pairs of a synthetic patch (left) and the training patch that it resembles most (right), by rank.

    images: uint8 [n, size, size, 3]. table: n rows with the columns rank, arm and role ("synthetic", "training").
    notes: (arm, rank) -> words below the pair.
    """
    pairs = _pairs(table)
    sheet, places = _paste_pairs(images, pairs)
    height = -(-len(pairs) // PAIRS_A_ROW) * (WIDTH * 0.97 / PAIRS_A_ROW / 2 + 0.42)
    with drawing("pairs", height) as figure:
        figure.set_layout_engine("none")
        ax = figure.add_axes((0.005, 0.01, 0.99, 0.98))
        ax.imshow(sheet, interpolation="none", aspect="auto")
        ax.set_axis_off()
        for (arm, rank), (y, x) in places.items():
            _write_below(ax, f"{rank} · {arm_name(arm)}", (x, y), -3.0, arm_color(arm))
            _write_below(ax, short(notes.get((arm, rank), ""), 24), (x, y), -14.0, COLORS["muted"])
    return figure


def _write_below(ax: Axes, text: str, place: tuple[int, int], points: float, color: str) -> None:
    ax.annotate(text, place, (0, points), textcoords="offset points", ha="left", va="top", fontsize=8, color=color)


def _pairs(table: pd.DataFrame) -> Pairs:
    """The row of the synthetic and of the training patch of each (arm, rank), by rank."""
    found: Pairs = {}
    for row, key in enumerate(zip(table["arm"].astype(str), table["rank"].astype(str), table["role"])):
        found.setdefault((key[0], key[1]), {})[key[2]] = row
    whole = {key: rows for key, rows in found.items() if {"synthetic", "training"} <= set(rows)}
    return dict(sorted(whole.items(), key=lambda item: (float(item[0][1]), item[0][0])))


def _paste_pairs(images: Patches, pairs: Pairs) -> tuple[Sheet, dict[tuple[str, str], tuple[int, int]]]:
    """All pairs on one transparent sheet, and the lower left corner of each."""
    size = images.shape[1]
    gap, words = max(2, size // 8), round(0.42 * 2 * PAIRS_A_ROW * size / WIDTH)
    wide, high = 2 * size + 1 + 2 * gap, size + words
    sheet = np.zeros((-(-len(pairs) // PAIRS_A_ROW) * high, PAIRS_A_ROW * wide, 4), dtype=np.uint8)
    places = {}
    for i, (key, pair) in enumerate(pairs.items()):
        y, x = i // PAIRS_A_ROW * high, i % PAIRS_A_ROW * wide
        _put(sheet, images[pair["synthetic"]], y, x)
        _put(sheet, images[pair["training"]], y, x + size + 1)
        places[key] = (y + size, x)
    return sheet, places
