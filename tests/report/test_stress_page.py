"""The page of a stress test, of today and of version 0.1, which said "carried" of translated patches."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import write_json, write_table
from medi.report.stress import build


def written(folder: Path, word: str, version: int = 1) -> Path:
    """What `medi stress` leaves, with the word of its version for translated patches."""
    figures = {"flip_rate change": [0.3, 0.2, 0.4], "flip_rate floor": [0.05, None, None]}
    head = {"format_version": version, "classifier": "mine.py:red", "attribute": "site", "patches": 10, word: 20}
    write_json(folder / "results.json", head | {"figures": figures})
    rows = [
        (metric, kind, name, level, 0.3, 0.2, 0.4, 10, 4, "")
        for metric, kind, name, level in product(
            ("flip_rate", "score_change"), ("change", "floor"), ("", "a"), ("", "A")
        )
    ]
    rows.append(("accuracy", "as is", "", "", 0.9, 0.8, 1.0, 10, 4, ""))
    columns = ["metric", "kind", "class", "level", "value", "low", "high", "n", "n_slides", "reason"]
    write_table(folder / "tables" / "stress.parquet", pd.DataFrame(rows, columns=columns))
    table = pd.DataFrame({"view": ["as is", "back", word] * 2, "site": list("AABAAB"), "class": "a"})
    table = table.assign(sample_id=[f"v{i}" for i in range(6)], patient="", slide="", predicted="a", score="0.9")
    pixels = Pixels.of(np.zeros((6, 8, 8, 3), dtype=np.uint8))
    Cohort(table.assign(source="s"), Schema.infer(table, ["site"]), pixels).save(folder / "worst")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("word", ["translated", "carried"])
def test_the_page_names_its_rows_whatever_version_wrote_them(word: str, tmp_path: Path) -> None:
    page = build(written(tmp_path, word)).read_text(encoding="utf-8")
    assert "10 patches, 20 translated to another site" in page
    assert "2 patches in three rows" in page
    assert all(f">{name}<" in page for name in ("as it is", "back at its own", "at another"))
    assert "Shown at another site, 30 % [20 %, 40 %] of the patches get another class." in page


def test_a_newer_stress_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediError, match="newer"):
        build(written(tmp_path, "translated", version=2))
