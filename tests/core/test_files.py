"""Atomic writes, plain JSON, safe names, format versions (P7, P11, P12)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medi.core.errors import MediError
from medi.core.files import (
    check_format,
    content_hash,
    read_json,
    read_table,
    safe_name,
    unfinished,
    write_atomic,
    write_json,
    write_table,
)


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """P12."""
    path = write_json(tmp_path / "a.json", {"old": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(MediError, match=r"a\.json: cannot be written \(No space left on device\)"):
        write_atomic(path, fail)
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_killed_write_leaves_no_file(tmp_path: Path) -> None:
    def kill(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "sub" / "a.json", kill)
    assert list((tmp_path / "sub").iterdir()) == []


def test_what_a_killed_process_left_of_the_same_file_is_deleted_p12(tmp_path: Path) -> None:
    """And neither what a running one writes, nor what is left of other files."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "a[1].json"
    gone, alive, other = unfinished(path, ended.pid), unfinished(path, os.getppid()), unfinished(path.with_name("b"), 9)
    for left in (gone, alive, other):
        left.write_text("half")
    write_json(path, {})
    assert sorted(tmp_path.iterdir()) == sorted([path, alive, other])


def test_undefined_numbers_are_null_in_json(tmp_path: Path) -> None:
    """P7: any reader can open our JSON; NaN is no JSON."""
    content = {"a": float("nan"), "b": np.float64("inf"), "c": np.array([1, 2]), "d": Path("x"), 3: (True, None)}
    path = write_json(tmp_path / "a.json", content)
    expected = {"a": None, "b": None, "c": [1, 2], "d": "x", "3": [True, None]}
    assert json.loads(path.read_text()).items() > expected.items()
    assert read_json(path) == expected


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), ("{", "not readable as JSON")])
def test_unreadable_json_is_one_clear_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(MediError, match=message):
        read_json(path)


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:b").mkdir()
    assert read_table(write_table(Path("a:b/t.parquet"), pd.DataFrame({"n": [1]})))["n"].tolist() == [1]


def test_tables_keep_text_as_written(tmp_path: Path) -> None:
    """P6: NA, 02 and the empty string stay as they are."""
    table = pd.DataFrame({"site": ["NA", "02", "", "nan"], "n": [1, 2, 3, 4]})
    read = read_table(write_table(tmp_path / "t.parquet", table))
    assert read["site"].tolist() == ["NA", "02", "", "nan"]
    assert read["n"].tolist() == [1, 2, 3, 4]
    (tmp_path / "t.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(MediError, match="not readable as Parquet"):
        read_table(tmp_path / "t.parquet")


def test_missing_text_is_empty_text_and_missing_numbers_stay_missing_p6_p7(tmp_path: Path) -> None:
    """Defect 9: text that Parquet holds as null comes back as "", in every kind of text column."""
    table = pd.DataFrame({"site": ["NA", None], "reason": [None, None], "n": [1.0, None], "flag": [True, None]})
    table = table.assign(stain=pd.Categorical(["H&E", None]), scanner=pd.Series(["x", pd.NA], dtype="string"))
    read = read_table(write_table(tmp_path / "t.parquet", table))
    assert read[["site", "reason", "stain", "scanner"]].to_numpy().tolist() == [
        ["NA", "", "H&E", "x"],
        ["", "", "", ""],
    ]
    assert {str(read[name].dtype) for name in ("site", "reason", "stain", "scanner")} == {"str"}
    assert read["n"].isna().tolist() == [False, True], "an undefined number is not 0, nor text"
    assert read["flag"][0] is True
    assert pd.isna(read["flag"][1])
    assert read_table(write_table(tmp_path / "none.parquet", table[:0])).empty


@pytest.mark.parametrize(("found", "message"), [(3, "newer than 2"), (None, "not written by medi"), ("1", "no format")])
def test_formats_of_others_are_refused(found: object, message: str) -> None:
    with pytest.raises(MediError, match=message):
        check_format(found, 2, Path("x"))


def test_older_formats_are_read() -> None:
    check_format(1, 2, Path("x"))


def test_names_from_metadata_never_become_paths() -> None:
    """P11."""
    names = ["../../etc/passwd", "a/b", "A\x00B", "..", "", "<script>", "Mayo Clinic", "Mayo-Clinic", "x" * 300]
    made = [safe_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for name in made)
    assert all(len(name) <= 50 for name in made)
    assert safe_name("Mayo-Clinic") == "Mayo-Clinic"


def test_content_hash_tells_contents_apart() -> None:
    hashes = [content_hash(*parts) for parts in [("a",), ("a", ""), (b"a",), ({"a": 1},), ([1, 2],), ([12],)]]
    assert len(set(hashes)) == len(hashes)
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
