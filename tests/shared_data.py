"""The research data that lie beside the project where it is developed; tests that read them are skipped elsewhere."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
TCGA = SHARED / "tcga"

real = pytest.mark.skipif(not SHARED.exists(), reason="needs the research data of ../shared/data")
