"""HTML of the app: what comes from metadata is text and nothing else (P11)."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from PIL import Image

import tiny_run
from medi.app import pictures


class Tags(HTMLParser):
    """The tags of a page, the attributes of each, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_that_are_code_stay_names() -> None:
    """Tags, and what templates of the page would take for their own."""
    counts = pd.DataFrame([[5, 0]], index=[tiny_run.EVIL], columns=["NA", tiny_run.EVIL])
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    pages = [
        pictures.counts_map(counts, (tiny_run.EVIL, "NA"), "counts"),
        pictures.grid("Real", pictures.escape(tiny_run.EVIL), [image], [pictures.escape(tiny_run.EVIL)], 4),
        pictures.table(pd.DataFrame({tiny_run.EVIL: [tiny_run.EVIL]}), tiny_run.EVIL),
        pictures.alarm(tiny_run.EVIL),
        pictures.status(pictures.name({"site": tiny_run.EVIL})),
    ]
    for page in pages:
        tags = Tags(page)
        assert not [tag for tag, given in tags.found if any(name.startswith("on") for name in given)]
        assert all(given["src"].startswith("data:image/png;base64,") for tag, given in tags.found if tag == "img")
        assert not set("{}$`") & set(page)
        assert tiny_run.EVIL in tags.text or tiny_run.EVIL in str(tags.found)


def test_the_map_marks_what_training_never_saw_and_what_is_chosen() -> None:
    counts = pd.DataFrame([[5, 0], [1, 7]], index=["LUAD", "LUSC"], columns=["NA", ""])
    buttons = [given for tag, given in Tags(pictures.counts_map(counts, ("LUAD", "NA"))).found if tag == "button"]
    assert [given["data-place"] for given in buttons] == ["0,0", "0,1", "1,0", "1,1"]
    assert [given["aria-pressed"] for given in buttons] == ["true", "false", "false", "false"]
    assert buttons[0]["aria-label"] == "LUAD × NA: 5 training patches"
    assert buttons[1]["aria-label"] == "LUAD × not known: never seen in training"


def test_a_wide_map_shows_its_largest_columns_and_says_so() -> None:
    wide = pd.DataFrame([range(100)], index=["LUAD"], columns=[f"h{i}" for i in range(100)])
    page = pictures.counts_map(wide, ("LUAD", "h99"))
    assert f"The {pictures.MAP_LEVELS} largest of 100 columns are shown" in page
    assert 'data-place="0,99"' in page
    assert "h59<" not in page


def test_a_table_leaves_undefined_numbers_blank() -> None:
    """P7: undefined is never a number."""
    cells = Tags(pictures.table(pd.DataFrame({"v": [0.25, float("nan")], "n": [1200, 3]}), "values"))
    assert "0.250" in cells.text
    assert "1,200" in cells.text
    assert "nan" not in cells.text


def test_every_picture_and_table_can_be_saved() -> None:
    """Text that a spreadsheet would take for a formula stays text."""
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    counts = pd.DataFrame([[5, 0]], index=["a"], columns=["NA", "=1+1"])
    pages = {
        "Real.png": pictures.grid("Real", "", [image] * 5, [""] * 5, 16),
        "patches.png": pictures.strip([image, image], ["", ""]),
        "counts.csv": pictures.counts_map(counts),
        "What_it_tells.csv": pictures.table(pd.DataFrame({"name": ["=cmd()"], "n": [-1]}), "What it tells"),
    }
    saved = {}
    for name, page in pages.items():
        (link,) = [attributes for tag, attributes in Tags(page).found if tag == "a"]
        assert link["download"].endswith(name[-4:])
        assert link["download"].startswith(name.split("_")[0].split(".")[0])
        saved[name] = base64.b64decode(link["href"].partition("base64,")[2])
    whole = np.asarray(Image.open(io.BytesIO(saved["Real.png"])))
    assert whole.shape == (8, 16, 3), "four in a row"
    np.testing.assert_array_equal(whole[:4, :4], image)
    assert saved["counts.csv"].decode().splitlines()[0] == "class,NA,'=1+1"
    assert saved["What_it_tells.csv"].decode().splitlines()[1] == "'=cmd(),-1"
    assert "Save" not in pictures.empty("Generated", "", 16), "there is nothing to save"
