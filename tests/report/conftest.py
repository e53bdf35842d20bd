"""A fabricated run folder for every test of the report."""

from pathlib import Path

import pytest
from fabricated import Fabricate, write_run


@pytest.fixture
def fabricate(tmp_path: Path) -> Fabricate:
    """fabricate(classes=..., sites=..., medi=..., size=...) writes a run folder and returns its path."""
    return lambda **options: write_run(tmp_path / "run", **options)
