"""Pictures of patches in a report: small enough for a mail, and the one that the README shows."""

from pathlib import Path

import numpy as np
import pytest
from fabricated import CLASSES, SITES, Fabricate
from PIL import Image

from medi.core.errors import MediError
from medi.report.pictures import figure_of, fitted


def test_large_patches_are_resampled_to_what_a_mail_can_carry() -> None:
    images = np.zeros((4, 64, 64, 3), dtype=np.uint8)
    assert fitted(images, 4 * 64 * 64) is images
    assert fitted(images, 4 * 20 * 20).shape == (4, 20, 20, 3)


@pytest.mark.slow
def test_the_picture_of_a_run_is_drawn_from_its_folder(fabricate: Fabricate, tmp_path: Path) -> None:
    """What benchmarks/picture.py writes for the README: 1,100 pixels across, with the patches of the sheet."""
    run = fabricate(classes=CLASSES[:2], sites=SITES[:2])
    figure_of(run).savefig(tmp_path / "picture.png", dpi=110)
    assert Image.open(tmp_path / "picture.png").width == 1100


def test_a_run_without_patches_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    with pytest.raises(MediError, match="no sheet of patches yet"):
        figure_of(tmp_path)
