"""Figures from tables alone: names are text, colours are the page's, every number has its mark."""

import io
import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import CLASSES, SITES, Fabricate, write_more, write_run
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from medi import figures
from medi.cohort.table import Cohort
from medi.core.files import read_table
from medi.figures import charts, maps, patches, to_svg
from medi.figures.drawing import COLORS, drawing
from medi.figures.names import number, ordered

HELD = {("COAD", "Christiana"), ("LUSC", "Duke")}


@pytest.fixture
def fabricate(tmp_path: Path) -> Fabricate:
    """fabricate(classes=..., sites=..., size=...) writes a run folder, whose tables and patches are drawn here."""
    return partial(write_run, tmp_path / "run")


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def texts(drawn: Figure | str) -> list[str]:
    """The text elements of a figure, or of its SVG."""
    svg = drawn if isinstance(drawn, str) else to_svg(drawn)
    return ["".join(element.itertext()) for element in parsed(svg).iter() if element.tag == "text"]


def frames(svg: str) -> int:
    """Held-out marks: unfilled outlines in ink, 1.8 points thick."""
    return len(re.findall(r"fill: none; stroke: var\(--ink\); stroke-width: 1\.8", svg))


def fidelity(run: Path, scope: str) -> pd.DataFrame:
    table = read_table(run / "tables" / "fidelity.parquet")
    return table[(table["scope"] == scope) & (table["metric"] == "frechet")]


@pytest.mark.slow
def test_maps_show_every_number_and_frame_the_held_out(fabricate: Fabricate) -> None:
    rows = fidelity(fabricate(), "combination")
    svg = to_svg(figures.distance_maps(rows, "site", HELD))
    assert frames(svg) == 3 * len(HELD)
    assert {*CLASSES, *SITES} <= set(texts(svg))
    shown = sorted(number(value) for value in rows["value"])
    assert not [value for value in shown if value not in texts(svg)]


def test_counts_are_capped_in_colour_not_in_number() -> None:
    """The paper's Figure 2: beyond 1,600 the colour stays; an empty combination has none."""
    counts = pd.DataFrame({"class": list("aabb"), "level": list("xyxy"), "n": [1600, 5000, 0, 3]})
    svg = to_svg(figures.count_map(counts, "site", set()))
    assert {"1,600", "5,000", "0", "3"} <= set(texts(svg))
    fills = re.findall(r'style="fill: (#[0-9a-f]{6})"', svg)
    assert fills[0] == fills[1] != fills[2]  # 1,600 and 5,000 share the darkest colour, 3 has another
    assert frames(svg) == 0


@pytest.mark.slow
def test_undefined_distances_are_dashes(fabricate: Fabricate) -> None:
    """P7: NaN is a dash in the maps and over the bars, never a zero."""
    run = fabricate()
    for figure in (
        figures.distance_maps(fidelity(run, "combination").assign(value=np.nan), "site", HELD),
        figures.class_bars(fidelity(run, "class").assign(value=np.nan)),
    ):
        svg = to_svg(figure)
        assert "–" in texts(svg)
        assert "nan" not in svg


@pytest.mark.slow
def test_bars_name_each_average(fabricate: Fabricate) -> None:
    rows = fidelity(fabricate(), "class")
    means = rows.groupby("arm")["value"].mean()
    found = " ".join(texts(figures.class_bars(rows)))
    assert f"MeDi: {number(means['medi'])} on average" in found
    assert f"CLS: {number(means['cls'])} on average" in found


@pytest.mark.slow
def test_forest_shows_every_arm_and_says_why_one_is_undefined(fabricate: Fabricate) -> None:
    utility = read_table(fabricate() / "tables" / "utility.parquet")
    rows = utility[utility["metric"] == "balanced_accuracy"].reset_index(drop=True)
    rows = rows[rows["scope"] == "all"].assign(axis=lambda table: table["split"], group="")
    rows.loc[(rows["arm"] == "oracle") & (rows["split"] == "seen"), ["value", "reason"]] = [np.nan, "one class"]
    axes = [figures.Axis(split, split, "", 0.25, "chance") for split in ("seen", "unseen")]
    found = texts(figures.forest(rows, axes))
    assert {"real only", "CLS", "MeDi", "oracle", "0.84", "undefined (one class)", "chance"} <= set(found)
    assert "0.92" not in found


def test_forest_stands_arms_of_another_kind_apart() -> None:
    """Transductive arms have a block of their own, with its name."""
    rows = pd.DataFrame({"arm": ["real", "site_centred"], "axis": "unseen", "group": ["", "shown test images"]})
    rows = rows.assign(value=[0.5, 0.9], low=np.nan, high=np.nan, reason="")
    svg = to_svg(figures.forest(rows, [figures.Axis("unseen", "unseen")]))
    assert {"site centred", "shown test images", "0.90"} <= set(texts(svg))


def test_confusions_stand_by_arm_and_undefined_rows_are_dashes() -> None:
    """P7: a level that nobody requested has no shares, which is not the same as shares of 0."""
    rows = [("medi", "a", "a", 0.75), ("medi", "a", "b", 0.25), ("real", "a", "a", 0.9), ("real", "b", "b", 0.8)]
    table = pd.DataFrame(rows, columns=["arm", "requested", "recognised", "share"])
    found = texts(figures.confusion_maps(table, "site"))
    assert {"real, held back", "MeDi", "0.75", "0.25", "0.90", "0.80"} <= set(found)
    assert found.count("–") == 2  # MeDi was asked for no b
    assert found.count("0") == 3  # real a as b, real b as a, and the foot of the scale


@pytest.mark.slow
def test_panels_show_each_level(fabricate: Fabricate) -> None:
    utility = read_table(fabricate() / "tables" / "utility.parquet")
    rows = utility[(utility["metric"] == "balanced_accuracy") & (utility["scope"] == "site")]
    axes = [figures.Axis(split, split) for split in ("seen", "unseen")]
    assert {*SITES, "real only", "MeDi", "oracle"} <= set(
        texts(figures.panels(rows.assign(axis=rows["split"]), "site", axes, ["real", "cls", "medi", "oracle"]))
    )


@pytest.mark.slow
def test_curves_have_a_line_per_arm_and_a_panel_per_split(fabricate: Fabricate) -> None:
    curves = read_table(write_more(fabricate()) / "tables" / "curves.parquet")
    svg = to_svg(figures.curves(curves[curves["x_name"] == "n_train"], "n train", "balanced accuracy", 0.25))
    assert {"seen combinations", "unseen combinations", "real only", "MeDi", "Mixup", "4,000"} <= set(texts(svg))


def test_lines_are_told_apart_and_heads_have_the_colours_of_the_house() -> None:
    for arms in ([f"head {i}" for i in range(10)], ["real", "medi", *(f"arm {i}" for i in range(8))]):
        lines = charts._lines(arms)
        assert list(lines) == arms
        assert len(set(lines.values())) == 10
    assert lines["medi"] == (COLORS["medi"], "-")
    assert {color for color, _ in charts._lines(list("abcd")).values()} == {COLORS[name] for name in charts.HUES}


@pytest.mark.slow
def test_pairs_are_shown_by_rank(fabricate: Fabricate) -> None:
    """Left of each pair the synthetic patch, right its neighbour, pixel for pixel."""
    pairs = Cohort.load(write_more(fabricate()) / "suspects")
    shuffled = pairs.select(np.random.default_rng(0).permutation(len(pairs)))
    sheet, places = patches._paste_pairs(shuffled.images[:], patches._pairs(shuffled.table))
    assert [rank for _, rank in places] == list("123456")
    for (arm, rank), (bottom, x) in places.items():
        for role, at in (("synthetic", x), ("training", x + 9)):
            patch = pairs.where(arm=arm, rank=rank, role=role).images[:][0]
            np.testing.assert_array_equal(sheet[bottom - 8 : bottom, at : at + 8, :3], patch)
    svg = to_svg(figures.pair_sheet(pairs.images[:], pairs.table, {("medi", "1"): "ratio 0.25"}))
    assert {"1 · MeDi", "6 · CLS", "ratio 0.25"} <= set(texts(svg))


def pasted(sheet: Cohort) -> tuple[patches.Grid, np.ndarray]:
    grid, places = patches._grid(sheet.images[:], sheet.table, "site", "class")
    return grid, grid.paste(sheet.images[:], places)


@pytest.mark.slow
def test_grid_holds_the_patches_where_they_belong(fabricate: Fabricate) -> None:
    """Figure 4, against the pixels themselves: each patch lies in its level's row and its class's block."""
    sheet = Cohort.load(fabricate() / "sheet")
    grid, picture = pasted(sheet)
    for row in range(0, len(sheet), 7):
        line = sheet.table.iloc[row]
        same = sheet.table[(sheet.table[["class", "site", "source"]] == line[["class", "site", "source"]]).all(axis=1)]
        x = grid.left(line["class"], line["source"]) + list(same.index).index(row) * 9
        y = grid.top(line["site"])
        np.testing.assert_array_equal(picture[y : y + 8, x : x + 8, :3], sheet.images[[row]][0])
    assert (picture[..., 3] == 255).sum() == len(sheet) * 64


def test_grid_is_embedded_pixel_for_pixel(fabricate: Fabricate) -> None:
    """No resampling on the way: the embedded picture has the sheet's own size, and is shown crisp."""
    sheet = Cohort.load(fabricate() / "sheet")
    svg = to_svg(figures.patch_grid(sheet.images[:], sheet.table, "site", framed=HELD))
    data = re.search(r'href="data:image/png;base64,([^"]*)"', svg)
    assert data is not None
    embedded = np.asarray(Image.open(io.BytesIO(b64decode(data[1]))))
    picture = pasted(sheet)[1]
    np.testing.assert_array_equal(embedded[picture[..., 3] == 255], picture[picture[..., 3] == 255])
    assert "image-rendering:pixelated" in svg
    assert frames(svg) == len(HELD)


def test_a_grid_of_one_source_names_the_rows_alone() -> None:
    """Without a column of blocks there is one block; categories keep their order; one source needs no name."""
    table = pd.DataFrame({"view": pd.Categorical(["b", "a", "b"], ["b", "c", "a"]), "source": "real"})
    figure = figures.patch_grid(np.zeros((3, 8, 8, 3), dtype=np.uint8), table, "view", blocks="")
    assert texts(figure) == ["b", "a"]


def test_only_what_is_shown_is_chosen() -> None:
    """As many patches a group as can be seen, of the first levels: those are loaded, no others."""
    table = pd.DataFrame({"class": "a", "site": ["x"] * 40 + ["y"] * 2, "source": "real"})
    assert figures.shown_patches(table).tolist() == [*range(26), 40, 41]


def test_a_notebook_shows_a_figure() -> None:
    counts = pd.DataFrame({"class": list("ab"), "level": list("xy"), "n": [3, 4]})
    assert figures.count_map(counts, "site")._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_maps_without_room_for_numbers_are_pictures() -> None:
    """One crisp pixel per combination; an empty one is transparent, a held-out one framed all the same."""
    names = [f"class {i:02}" for i in range(40)]
    counts = pd.DataFrame({"class": names, "level": "x", "n": range(40)})
    svg = to_svg(figures.count_map(counts, "site", {("class 03", "x")}))
    data = re.search(r'href="data:image/png;base64,([^"]*)"', svg)
    assert data is not None
    picture = np.asarray(Image.open(io.BytesIO(b64decode(data[1]))))
    assert picture.shape[:2] == (1, 40)
    assert (picture[0, :, 3] == 0).tolist() == [True] + [False] * 39
    assert frames(svg) == 1


def test_grid_leaves_out_what_is_not_there(fabricate: Fabricate) -> None:
    sheet = Cohort.load(fabricate() / "sheet")
    part = sheet.select(~((sheet.table["source"] == "cls") & (sheet.table["class"] == "COAD")).to_numpy())
    grid, picture = pasted(part)
    left = grid.left("COAD", "cls")
    assert not picture[:, left : left + grid.group].any()


@pytest.mark.slow
def test_training_lines_end_in_their_names(fabricate: Fabricate) -> None:
    training = read_table(fabricate() / "tables" / "training.parquet")
    assert {"CLS, training", "MeDi, validation"} <= set(texts(figures.training_curves(training)))
    alone = figures.training_curves(training.assign(validation_loss=np.nan))
    assert not [text for text in texts(alone) if "validation" in text]


@pytest.mark.parametrize("name", ["$\\frac{1}$", "a_b^c$d", "<b>&amp;\"'", "病理", "--", " "])
def test_any_name_is_plain_text(name: str) -> None:
    """P11, and matplotlib's mathematical type is off: a $ is a $."""
    counts = pd.DataFrame({"class": [name, "b"], "level": [name, "y"], "n": [3, 4]})
    assert texts(figures.count_map(counts, name, {(name, name)})).count(name) >= 2


@pytest.mark.slow
def test_colours_are_the_pages_and_ids_do_not_clash(fabricate: Fabricate) -> None:
    """The same arm has the same colour in light and dark: no stand-in is left, and drawings share no id."""
    run = fabricate()
    rows = fidelity(run, "class")
    drawings = [
        figures.class_bars(rows),
        figures.training_curves(read_table(run / "tables" / "training.parquet")),
        figures.distance_maps(fidelity(run, "combination"), "site", HELD),
    ]
    drawings = [to_svg(drawing) for drawing in drawings]
    for svg in drawings:
        assert not set(figures.COLORS.values()) & set(re.findall(r"#[0-9a-f]{6}", svg))
        assert "var(--medi)" in svg
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in drawings]
    assert not ids[0] & ids[1]
    assert not ids[1] & ids[2]


def test_names_are_ordered_as_read() -> None:
    assert ordered(["site 10", "Site 2", "b", "site 1", "b"]) == ["b", "site 1", "Site 2", "site 10"]


def test_numbers_on_cells_can_be_read() -> None:
    """WCAG AA: the number contrasts at least 4.5 : 1 with its cell, all along both scales."""
    for scheme in (maps.DISTANCE, maps.COUNT, maps.SHARE):
        for face in scheme.colors.colors:
            text = maps.readable(face)
            assert _contrast(face[:3], [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]) >= 4.5


def _contrast(a: np.ndarray, b: list[float]) -> float:
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: np.ndarray | list[float]) -> float:
    c = np.asarray(color, dtype=float)
    return float(np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_no_scale_holds_a_colour_of_the_page() -> None:
    """Such a colour would become a variable, and change in the dark."""
    scales = {to_hex(face) for scheme in (maps.DISTANCE, maps.COUNT, maps.SHARE) for face in scheme.colors.colors}
    assert not scales & set(figures.COLORS.values())


def test_equal_counts_can_be_read() -> None:
    """A map of equal counts was one rectangle: each field has its number, and the scale starts at 0."""
    rows = [(name, level, 40) for name in "ab" for level in "xyz"]
    figure = figures.count_map(pd.DataFrame(rows, columns=["class", "level", "n"]), "site")
    assert texts(figure).count("40") >= 6
    assert "0" in texts(figure)


def test_a_figure_is_drawn_once_and_keeps_its_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    with drawing("twice", 1.0) as figure:
        figure.subplots().set_ylabel("a label that needs its room")
    engine, draw = figure.get_layout_engine(), type(figure).draw
    monkeypatch.setattr(type(figure), "draw", lambda self, renderer: drawn.append(draw(self, renderer)))
    first = to_svg(figure)
    assert len(drawn) == 1
    assert figure.get_layout_engine() is engine is not None
    assert to_svg(figure) == first
