"""Result tables: what is written is checked, and tables of version 0.1 are read as those of today."""

from pathlib import Path

import pandas as pd
import pytest

from medi.core.errors import MediError
from medi.core.files import write_table
from medi.core.tables import FIDELITY, MEMORISATION, upgraded

OLD = pd.DataFrame(
    {
        "metric": ["frechet", "frechet_difference", "obedience"],
        "arm": ["cls", "cls - medi", "a - b"],
        "reason": ["", None, ""],
    }
)


def test_old_tables_get_two_columns_and_todays_names() -> None:
    new = upgraded(OLD)
    assert list(zip(new["arm"], new["against"])) == [("cls", ""), ("cls", "medi"), ("a - b", "")]
    assert list(new["metric"]) == ["frechet", "frechet_difference", "as_asked"]
    assert list(new["reason"]) == ["", "", ""], "no text is empty text"
    assert list(new.columns) == ["metric", "arm", "against", "reason"]
    pd.testing.assert_frame_equal(upgraded(new), new)
    assert list(upgraded(OLD[:0]).columns) == list(new.columns)


def test_the_old_file_name_is_read(tmp_path: Path) -> None:
    assert not MEMORISATION.exists(tmp_path)
    write_table(tmp_path / "copying.parquet", pd.DataFrame({"metric": ["copy_rate"], "arm": ["medi"], "value": [0.1]}))
    assert MEMORISATION.exists(tmp_path)
    assert MEMORISATION.read(tmp_path)["against"].tolist() == [""]


def test_what_is_written_is_checked(tmp_path: Path) -> None:
    table = pd.DataFrame({name: [""] for name in FIDELITY.text} | {name: [0.0] for name in FIDELITY.numbers})
    assert FIDELITY.write(tmp_path, table) == tmp_path / "fidelity.parquet"
    with pytest.raises(MediError, match=r"fidelity\.parquet: the fidelity table lacks the columns against"):
        FIDELITY.write(tmp_path, table.drop(columns="against"))
    with pytest.raises(MediError, match="missing text in reason"):
        FIDELITY.write(tmp_path, table.assign(reason=None))
