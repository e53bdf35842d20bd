"""What the verbs start from: a table with images, and packed cohorts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Medi
from small_cohorts import write_cohorts, write_model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """metadata.csv beside 48 images: 2 classes x 3 sites x 4 patients x 2 patches."""
    rows = ["image,label,patient,slide,site"]
    (tmp_path / "own").mkdir()
    for i, (label, site, patient, _patch) in enumerate(np.ndindex(2, 3, 4, 2)):
        Image.new("RGB", (12, 12), (5 * i, 90, 120)).save(tmp_path / "own" / f"{i}.png")
        who = f"P{label}{site}{patient}"
        rows.append(f"{i}.png,{'ab'[label]},{who},S{who},{('NA', '02', 'X')[site]}")
    path = tmp_path / "own" / "metadata.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed cohorts real, good and flat."""
    return write_cohorts(tmp_path_factory.mktemp("cohorts"))


@pytest.fixture
def verb(medi: Medi) -> Medi:
    """medi in a folder that has a model m and a plan table."""
    write_model(Path("m"))
    Path("plan.csv").write_text("class,site,n\nLUAD,NA,5\nLUSC,Asterand:0.7+X:0.3,4\nLUSC,,2\n")
    return medi
