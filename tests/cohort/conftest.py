"""TCGA's slides, where the research data lie beside the project."""

from pathlib import Path

import pandas as pd
import pytest

TCGA = Path(__file__).parents[2] / "../shared/data/tcga"


@pytest.fixture(scope="module")
def slides() -> pd.DataFrame:
    if not TCGA.exists():
        pytest.skip("no TCGA tables here")
    table = pd.read_csv(TCGA / "slides.csv", dtype=str, keep_default_na=False)
    names = {"slide_submitter_id": "slide", "case_submitter_id": "patient", "project_id": "class"}
    table = table.rename(columns=names).assign(sample_id=table["slide_submitter_id"])
    return table.assign(site=table["slide"].str.split("-").str[1])  # the code NA is lost in the table's own column
