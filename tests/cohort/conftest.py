"""TCGA's slides, where the research data lie beside the project."""

import pandas as pd
import pytest

from shared_data import TCGA


@pytest.fixture(scope="module")
def slides() -> pd.DataFrame:
    if not TCGA.exists():
        pytest.skip("needs the research data of ../shared/data")
    table = pd.read_csv(TCGA / "slides.csv", dtype=str, keep_default_na=False)
    names = {"slide_submitter_id": "slide", "case_submitter_id": "patient", "project_id": "class"}
    table = table.rename(columns=names).assign(sample_id=table["slide_submitter_id"])
    return table.assign(site=table["slide"].str.split("-").str[1])  # the code NA is lost in the table's own column
