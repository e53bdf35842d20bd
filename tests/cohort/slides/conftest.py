"""Whole slides: two of two scanners, and a table of them."""

from pathlib import Path

import pandas as pd
import pytest

for package in ("openslide", "pydicom", "tifffile", "tiffslide"):
    pytest.importorskip(package)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the slides; `slides.csv` lies beside it."""
    from pyramids import aperio, generic

    slides = tmp_path / "slides"
    slides.mkdir()
    aperio(slides / "a.svs")
    generic(slides / "b.tif")
    pd.DataFrame({"file": ["a", "b.tif"], "case": ["p1", "p2"], "diagnosis": ["A", "B"]}).to_csv(
        tmp_path / "slides.csv", index=False
    )
    return slides
