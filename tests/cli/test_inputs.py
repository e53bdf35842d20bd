"""Each input of the page on inputs goes from its file to a verdict by the very command that the page shows."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import table_files as tables
from command_line import Medi, fine, refused
from feature_files import SLIDES, anndata, h5, numbers, parts, table_of

for _package in ("openpyxl", "duckdb", "h5py", "zarr"):
    pytest.importorskip(_package)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "inputs.md"
ELSEWHERE = {  # tests of their own
    "medi audit metadata.csv --label diagnosis --attributes site",
    "medi audit patches.csv --label diagnosis --discover",
    "medi slides slides.csv --slides FOLDER --size 256 --mpp 0.5",
    "medi utility my-packed --features my-embeddings.parquet",
    "medi stress probe my-holdout --changed scanner-B=features_b",
}
ROWS = [[f"s{i}", f"p{i}", "AB"[i % 2], ("Åbo", "Oslo")[i // 2 % 2], "61"] for i in range(24)]
FEATURES = "medi audit slides.csv --features features_uni"
Save = Callable[[Path, np.ndarray, np.ndarray], object]


def of_slides(save: Save, suffix: str) -> None:
    """A table of slides, and a file of features for each."""
    table_of(Path("slides.csv"))
    Path("features_uni").mkdir()
    for slide, (features, coords) in parts(4).items():
        save(Path("features_uni") / f"{slide}{suffix}", features, coords)


def zarr_of(path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    import zarr

    group = zarr.open_group(str(path), mode="w")
    for name, values in {"features": features, "coords": coords}.items():
        group.create_array(name, data=values)


def parquet_of(path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    pd.DataFrame(features).add_prefix("f").assign(x=coords[:, 0], y=coords[:, 1]).to_parquet(path)


def tensor_of(path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    torch.save({"features": torch.from_numpy(features), "coords": torch.from_numpy(coords)}, path)


def one_matrix() -> None:
    table_of(Path("slides.csv"))
    np.save("all.npy", numbers(len(SLIDES)))


def folds(rows: Sequence[Sequence[str]] = ROWS) -> None:
    fold = ["train", "test"] * (len(rows) // 4) + ["test", "train"] * (len(rows) // 4)
    pd.DataFrame(rows, columns=tables.HEADER).assign(fold=fold).to_csv("cases.csv", index=False)


def dataset(save: Callable[..., Any], **splits: Any) -> Callable[[], Any]:
    return lambda: save(Path("my-dataset"), **splits)


CASES: dict[str, tuple[str, Callable[[], Any]]] = {
    "xlsx": (
        "medi audit cases.xlsx --sheet Cases",
        lambda: tables.book(Path("cases.xlsx"), [tables.HEADER, *ROWS]),
    ),
    "ods": ("medi audit cases.ods", lambda: tables.ods(Path("cases.ods"), [tables.HEADER, *ROWS])),
    "UTF-16": ("medi audit cases.csv", lambda: tables.text(Path("cases.csv"), "utf-16", ROWS)),
    "Latin-1": (
        "medi audit cases.csv --encoding latin-1",
        lambda: tables.text(Path("cases.csv"), "latin-1", ROWS),
    ),
    "SQLite": (
        'medi audit lab.sqlite --query "SELECT * FROM cases"',
        lambda: tables.sqlite(Path("lab.sqlite"), ROWS),
    ),
    "DuckDB": ("medi audit lab.duckdb --sheet cases", lambda: tables.duck(Path("lab.duckdb"), ROWS)),
    "datasets, Parquet": ("medi audit my-dataset", dataset(tables.hub, train=ROWS)),
    "datasets, Arrow": ("medi audit my-dataset", dataset(tables.saved, rows=ROWS)),
    "CLAM": (FEATURES, lambda: of_slides(h5, ".h5")),
    "TRIDENT": (FEATURES, lambda: of_slides(lambda *found: h5(*found, encoder="uni_v1", name=True), ".h5")),
    ".npy": (FEATURES, lambda: of_slides(lambda path, x, _: np.save(path, x), ".npy")),
    ".npz": (FEATURES, lambda: of_slides(lambda path, x, c: np.savez(path, features=x, coords=c), ".npz")),
    ".pt": (FEATURES, lambda: of_slides(tensor_of, ".pt")),
    "Parquet": (FEATURES, lambda: of_slides(parquet_of, ".parquet")),
    "Zarr": (FEATURES, lambda: of_slides(zarr_of, ".zarr")),
    "slide-level": (FEATURES, lambda: of_slides(lambda path, x, _: np.save(path, x[0]), ".npy")),
    "one matrix": ("medi audit slides.csv --features all.npy", one_matrix),
    ".h5ad": (
        "medi audit patches.h5ad --label diagnosis --attributes site",
        lambda: anndata(Path("patches.h5ad"), 4),
    ),
    "split column": ("medi holdout cases.csv --split-column fold", folds),
    "split of datasets": (
        "medi holdout my-dataset --split-column hf_split",
        dataset(tables.hub, train=ROWS[:14], test=ROWS[14:]),
    ),
}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time and are tested elsewhere."""
    for name in ("counts_map", "attribute_bars"):
        monkeypatch.setattr(f"medi.figures.audit.{name}", lambda *_: None)


def test_the_page_shows_these_commands_and_no_others() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| what you have |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(medi \w+ [^`]+)`", table)) == {command for command, _ in CASES.values()} | ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_from_file_to_verdict_by_the_documented_command(name: str, medi: Medi) -> None:
    command, make = CASES[name]
    make()
    shown = " ".join(fine(medi(*shlex.split(command)[1:])).split())
    if command.startswith("medi holdout"):
        assert "the split is the data set's own" in shown
        assert "training patches: class from site, without the image: balanced accuracy" in shown
    else:
        assert re.search(r"site 2 0 \d .* (none|mild|caution|strong|alarm|too few patients to say) ", shown), shown


# --- bad input --------------------------------------------------------------------------------------------------------


class Harmful:
    """Something that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("run"),)  # type: ignore[return-value]


def spoiled(change: Callable[[], object]) -> Callable[[], None]:
    """Sound files, of which one is changed then."""

    def make() -> None:
        of_slides(h5, ".h5")
        change()

    return make


def one(slide: str, features: np.ndarray, coords: np.ndarray | None = None, **said: str) -> Callable[[], object]:
    return lambda: h5(Path("features_uni") / f"{slide}.h5", features, coords, **said)


NAN = np.where(np.eye(4, 6) > 0, np.nan, 1.0).astype(np.float32)
FAULTS: dict[str, tuple[str, Callable[[], Any], tuple[str, ...]]] = {
    "slides that lack": (FEATURES, spoiled(lambda: Path("features_uni/s5.h5").unlink()), ("slide s5", "no features")),
    "rows of one matrix": (
        "medi audit slides.csv --features all.npy",
        lambda: (one_matrix(), np.save("all.npy", numbers(5))),
        ("all.npy has 5 rows", "the table 12 rows"),
    ),
    "not finite": (FEATURES, spoiled(one("s5", NAN)), ("s5.h5 row 1", "not finite")),
    "two encoders": (
        FEATURES,
        spoiled(lambda: (one("s0", numbers(4), encoder="a")(), one("s5", numbers(4), encoder="b")())),
        ("s0.h5 has the encoder a", "s5.h5 the encoder b"),
    ),
    "two widths": (FEATURES, spoiled(one("s5", numbers(4, 9))), ("s0.h5 has 6 numbers a row", "s5.h5 9 numbers")),
    "code": (
        FEATURES,
        lambda: of_slides(lambda path, x, _: torch.save({"features": Harmful()}, path), ".pt"),
        ("s0.pt", "would run code"),
    ),
    "merged cells": (
        "medi audit cases.xlsx",
        lambda: tables.book(
            Path("cases.xlsx"), [tables.HEADER, *ROWS], change=lambda sheet: sheet.merge_cells("B3:B4")
        ),
        ("cases.xlsx sheet 'Cases' row 3", "B3:B4 are merged"),
    ),
    "a formula": (
        "medi audit cases.xlsx",
        lambda: tables.book(Path("cases.xlsx"), [tables.HEADER, *ROWS, ["=A2", "p", "A", "Oslo", ""]]),
        ("row 26", "A26 is a formula"),
    ),
    "an archive": (
        "medi audit cases.tar.gz",
        lambda: Path("cases.tar.gz").write_bytes(b""),
        ("cases.tar.gz: is an archive; unpack it and give its folder",),
    ),
    "an encrypted spreadsheet": (
        "medi audit cases.xlsx",
        lambda: Path("cases.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
        ("cases.xlsx", "is encrypted"),
    ),
    "an encrypted .ods": (
        "medi audit cases.ods",
        lambda: tables.ods(Path("cases.ods"), [tables.HEADER, *ROWS], manifest="<manifest:encryption-data/>"),
        ("cases.ods", "is encrypted"),
    ),
    "an encrypted Parquet file": (
        "medi audit cases.parquet",
        lambda: Path("cases.parquet").write_bytes(b"PARE" + bytes(64) + b"PARE"),
        ("cases.parquet", "not readable as Parquet"),
    ),
    "an encrypted database": (
        "medi audit lab.sqlite",
        lambda: Path("lab.sqlite").write_bytes(bytes(range(256)) * 16),
        ("lab.sqlite", "neither a SQLite nor a DuckDB file (or it is encrypted)"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_nothing_is_written(name: str, medi: Medi) -> None:
    command, make, words = FAULTS[name]
    make()
    refused(medi(*shlex.split(command)[1:]), *words)
    assert not Path("medi-audit").exists()
    assert not Path("run").exists(), "code in a file was run"


@pytest.mark.slow
def test_features_that_are_all_the_same_are_told(medi: Medi) -> None:
    of_slides(lambda path, x, c: np.save(path, np.full_like(x, 0.1)), ".npy")
    assert "6 of 6 features are the same in all rows" in fine(medi(*shlex.split(FEATURES)[1:]))
