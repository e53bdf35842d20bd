"""Features that another program made: every kind of file, how rows meet the table, what is refused (P1, P5, P12)."""

import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import medi as facade
from command_line import Medi, fine, refused
from feature_files import SLIDES, anndata, h5, numbers, parts, table_of
from medi.cohort import readers
from medi.cohort.readers.features.loading import load_features
from medi.cohort.table import Cohort
from medi.core.errors import MediError

pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
ROLES: dict[str, Any] = {"label": "diagnosis", "attributes": ["site"]}
N = 4  # patches of a slide


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return table_of(tmp_path / "slides.csv")


def read(table: Path, features: Path, **options: Any) -> Cohort:
    return facade.read(table, features=features, **ROLES, **options)


def a_file_a_slide(folder: Path, save: Callable[[Path, np.ndarray, np.ndarray], object], suffix: str) -> Path:
    folder.mkdir()
    for slide, (features, coords) in parts(N).items():
        save(folder / f"{slide}{suffix}", features, coords)
    return folder


def in_zarr(path: Path, features: np.ndarray, coords: np.ndarray, version: int = 3) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    if version == 3:
        group.attrs["encoder"] = "uni_v1"
    for name, values in {"features": features, "coords": coords}.items():
        group.create_array(name, data=values)


def in_npz(path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    np.savez(path, features=features, coords=coords, encoder=np.array("uni_v1"))


def in_parquet(path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    columns = pd.DataFrame(coords, columns=["x", "y"]).assign(embedding=list(features))
    pq.write_table(pa.Table.from_pandas(columns).replace_schema_metadata({"encoder": "uni_v1"}), path)


def in_numbered_columns(path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    pd.DataFrame(features).add_prefix("f").assign(x=coords[:, 0], y=coords[:, 1]).to_parquet(path)


FORMS: dict[str, Callable[[Path], Path]] = {
    "CLAM .h5": lambda path: a_file_a_slide(path, h5, ".h5"),
    "TRIDENT .h5": lambda path: a_file_a_slide(path, lambda *parts: h5(*parts, encoder="uni_v1", name=True), ".h5"),
    "old CLAM .h5": lambda path: a_file_a_slide(path, lambda file, x, c: h5(file, x[None], c), ".h5"),
    "half .h5": lambda path: a_file_a_slide(path, lambda file, x, c: h5(file, x.astype(np.float16), c), ".h5"),
    ".npz, encoder": lambda path: a_file_a_slide(path, in_npz, ".npz"),
    ".pt": lambda path: a_file_a_slide(path, lambda file, x, c: torch.save(torch.from_numpy(x), file), ".pt"),
    ".pt dict": lambda path: a_file_a_slide(
        path,
        lambda file, x, c: torch.save({"features": torch.from_numpy(x), "coords": torch.from_numpy(c)}, file),
        ".pt",
    ),
    ".npy": lambda path: a_file_a_slide(path, lambda file, x, c: np.save(file, x), ".npy"),
    "Parquet of lists, encoder": lambda path: a_file_a_slide(path, in_parquet, ".parquet"),
    "Parquet of columns": lambda path: a_file_a_slide(path, in_numbered_columns, ".parquet"),
    "Zarr 3, encoder": lambda path: a_file_a_slide(path, in_zarr, ".zarr"),
    "Zarr 2": lambda path: a_file_a_slide(path, lambda *parts: in_zarr(*parts, version=2), ".zarr"),
    "one .h5ad": lambda path: anndata(path.with_suffix(".h5ad"), N),
    "sparse .h5ad": lambda path: anndata(path.with_suffix(".h5ad"), N, sparse=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_file_gives_the_same_patches(form: str, table: Path, tmp_path: Path) -> None:
    cohort = read(table, FORMS[form](tmp_path / "features"))
    assert len(cohort) == N * len(SLIDES)
    wanted = {slide: features for slide, (features, _) in parts(N).items()}
    found = load_features(cohort)
    for slide, rows in cohort.table.groupby("slide").indices.items():
        tolerance = 2e-3 if "half" in form else 0
        np.testing.assert_allclose(found[rows], wanted[str(slide)], atol=tolerance)
        assert cohort.table["class"].iloc[rows].nunique() == 1
    assert cohort.info["features"]["encoder"] == ("uni_v1" if "TRIDENT" in form or "encoder" in form else "")
    assert cohort.audit().grades()["site"] in ("none", "caution", "strong", "alarm"), "the verdict of an audit"
    again = Cohort.load(cohort.save(tmp_path / "saved"))
    np.testing.assert_array_equal(load_features(again), found)


@pytest.mark.slow
def test_a_patch_is_named_after_its_coordinates_and_the_order_of_rows_is_kept(table: Path, tmp_path: Path) -> None:
    cohort = read(table, FORMS["CLAM .h5"](tmp_path / "features"))
    assert cohort.table["sample_id"].tolist()[:2] == ["s0/0_0", "s0/256_0"]
    assert "matched by slide, a patch per row" in "\n".join(cohort.notes)
    part = cohort.where(site="Rome")
    np.testing.assert_array_equal(
        load_features(part), load_features(cohort)[(cohort.table["site"] == "Rome").to_numpy()]
    )


def test_another_file_in_the_same_folder_holds_other_features(table: Path, tmp_path: Path) -> None:
    first, second = numbers(len(SLIDES)), numbers(len(SLIDES), seed=1)
    for name, found in (("first.npy", first), ("second.npy", second)):
        np.save(tmp_path / name, found)
    cohort = read(table, tmp_path / "first.npy")
    assert readers.with_features(cohort, tmp_path / "first.npy") is cohort
    other = readers.with_features(cohort, tmp_path / "second.npy")
    np.testing.assert_array_equal(load_features(other), second)


def test_features_of_slides_are_a_row_a_slide(table: Path, tmp_path: Path) -> None:
    folder = a_file_a_slide(tmp_path / "f", lambda file, x, c: h5(file, x[0], None), ".h5")
    cohort = read(table, folder)
    assert cohort.table["sample_id"].tolist() == list(SLIDES)
    assert "matched by slide, a row per slide" in "\n".join(cohort.notes)


def test_slides_without_tissue_are_noted(table: Path, tmp_path: Path) -> None:
    """TRIDENT writes a file without rows for them."""
    folder = FORMS["CLAM .h5"](tmp_path / "f")
    h5(folder / "s4.h5", np.empty(0, dtype=np.float32), np.empty((0, 2), dtype=int))
    cohort = read(table, folder)
    assert len(cohort) == N * (len(SLIDES) - 1)
    assert "slides without a usable row of features (s4): 1" in "\n".join(cohort.notes)


def test_one_matrix_goes_by_the_order_of_the_table(table: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", numbers(len(SLIDES)))
    cohort = read(table, tmp_path / "all.npy")
    np.testing.assert_array_equal(load_features(cohort), numbers(len(SLIDES)))
    assert "row by row, in order" in "\n".join(cohort.notes)
    np.save(tmp_path / "all.npy", numbers(5))
    with pytest.raises(MediError, match=r"all.npy has 5 rows of features without names, the table 12 rows"):
        read(table, tmp_path / "all.npy")


def patches(tmp_path: Path, **columns: Any) -> Path:
    """A table with a row per patch, the last one first."""
    rows = [
        (slide, f"p{slide}", "AB"[i % 2], "Rome" if i % 3 else "Oslo", p)
        for i, slide in enumerate(SLIDES)
        for p in range(N)
    ]
    made = pd.DataFrame(rows[::-1], columns=["slide", "patient", "diagnosis", "site", "patch"])
    made = made.assign(**{name: make(made) for name, make in columns.items()})
    made.to_csv(tmp_path / "patches.csv", index=False)
    return tmp_path / "patches.csv"


@pytest.mark.slow
def test_patches_of_a_table_are_found_by_their_coordinates(tmp_path: Path) -> None:
    source = patches(tmp_path, x_coord=lambda t: t["patch"] * 256, y_coord=lambda t: 0)
    cohort = read(source, FORMS["CLAM .h5"](tmp_path / "f"))
    order = {slide: features for slide, (features, _) in parts(N).items()}
    wanted = np.stack([order[slide][int(patch)] for slide, patch in zip(cohort.table["slide"], cohort.table["patch"])])
    np.testing.assert_array_equal(load_features(cohort), wanted)
    source = patches(tmp_path, x_coord=lambda t: t["patch"] * 512, y_coord=lambda t: 0)
    with pytest.raises(
        MediError, match=r"slide s\d+: the table has a patch at \(1536, 0\) .*s\d+.h5 with 4 rows has none"
    ):
        read(source, tmp_path / "f")


def test_patches_without_coordinates_go_by_order_and_differing_numbers_are_named(tmp_path: Path) -> None:
    folder = FORMS[".npy"](tmp_path / "f")
    cohort = read(patches(tmp_path), folder)
    assert cohort.table["features"].iloc[0] == "s11.npy!0"
    np.save(folder / "s3.npy", numbers(N + 2))
    with pytest.raises(MediError, match=r"slide s3: the table has 4 rows, s3.npy has 6; give coordinates"):
        read(tmp_path / "patches.csv", folder)


def test_named_samples_are_found_wherever_they_stand(tmp_path: Path) -> None:
    source = patches(tmp_path, sample_id=lambda t: t["slide"] + "-" + t["patch"].astype(str))
    names = [f"{slide}-{patch}" for patch in range(N) for slide in SLIDES]
    np.savez(tmp_path / "f.npz", features=numbers(len(names)), sample_id=np.array(names))
    cohort = read(source, tmp_path / "f.npz")
    known = dict(zip(names, numbers(len(names))))
    np.testing.assert_array_equal(load_features(cohort), np.stack([known[name] for name in cohort.table["sample_id"]]))
    np.savez(tmp_path / "f.npz", features=numbers(len(names) - 1), sample_id=np.array(names[1:]))
    with pytest.raises(MediError, match="s0-0: has no features"):
        read(source, tmp_path / "f.npz")
    assert len(read(source, tmp_path / "f.npz", on_error="skip")) == len(names) - 1


def test_names_of_scans_and_of_tcga_files_are_those_of_slides(tmp_path: Path) -> None:
    table_of(tmp_path / "slides.csv", name=lambda slide: f"{slide}.svs")
    assert len(read(tmp_path / "slides.csv", FORMS[".npy"](tmp_path / "f"))) == N * len(SLIDES)
    for file in (tmp_path / "f").iterdir():
        file.rename(file.with_name(f"{file.stem}.6B7A-11{file.suffix}"))
    table_of(tmp_path / "slides.csv")
    assert len(read(tmp_path / "slides.csv", tmp_path / "f")) == N * len(SLIDES)


# --- bad input --------------------------------------------------------------------------------------------------------


class Harmful:
    """Something that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("run",)


def broken(folder: Path) -> Iterator[tuple[str, str]]:
    """Make one thing wrong at a time, and say what the message must name."""
    good = {slide: (folder / f"{slide}.h5").read_bytes() for slide in SLIDES}
    features, coords = parts(N)["s5"]

    def spoiled(features: np.ndarray = features, coords: np.ndarray = coords, **said: Any) -> None:
        h5(folder / "s5.h5", features, coords, **said)

    nan = features.copy()
    nan[2, 1] = np.nan
    spoiled(nan)
    yield "not finite", r"s5.h5 row 3: features that are not finite"
    spoiled(coords=coords[[0, 1, 1, 3]])
    yield "twice", r"s5.h5: rows 2 and 3 have the same coordinates \(256, 0\)"
    spoiled(coords=coords[:3])
    yield "coords", r"s5.h5: 4 rows of features, but coordinates of the shape \[3, 2\]"
    spoiled(numbers(N, 9))
    yield "widths", r"s0.h5 has 6 numbers a row, s5.h5 9 numbers a row: two encoders"
    h5(folder / "s0.h5", *parts(N)["s0"], encoder="uni_v1")
    spoiled(encoder="virchow2")
    yield "encoders", r"s0.h5 has the encoder uni_v1, s5.h5 the encoder virchow2: two encoders"
    (folder / "s5.h5").write_bytes(good["s5"][:700])
    yield "cut off", r"s5.h5: not readable as features"
    spoiled()
    (folder / "s0.h5").write_bytes(good["s0"])
    (folder / "s5.h5").unlink()
    yield "lacking", r"slide s5: has no features"
    torch.save({"features": Harmful()}, folder / "s5.pt")
    yield "kinds", r"features of several kinds, .h5 \(11\), .pt \(1\)"


@pytest.mark.slow
def test_bad_features_are_one_line_with_file_and_row(table: Path, tmp_path: Path) -> None:
    folder = FORMS["CLAM .h5"](tmp_path / "f")
    for _, message in broken(folder):
        with pytest.raises(MediError, match=message):
            read(table, folder)


def test_bad_rows_can_be_left_out_and_are_listed(table: Path, tmp_path: Path) -> None:
    folder = FORMS["CLAM .h5"](tmp_path / "f")
    features, coords = parts(N)["s5"]
    features = features.copy()
    features[2, 1] = np.inf
    h5(folder / "s5.h5", features, coords[[0, 1, 2, 1]])
    cohort = read(table, folder, on_error="skip")
    assert cohort.table["features"][cohort.table["slide"] == "s5"].tolist() == ["s5.h5!0", "s5.h5!1"]
    assert "left out, features that are not finite" in "\n".join(cohort.notes)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pt_that_wants_to_run_code_is_refused_by_name(
    how: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "f"
    folder.mkdir()
    if how == "torch":
        torch.save({"features": Harmful()}, folder / "s0.pt")
    else:
        (folder / "s0.pt").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(MediError, match=r"s0.pt: holds more than tensors and would run code when it is read; refused"):
        read(table, folder)
    np.save(tmp_path / "o.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    with pytest.raises(MediError, match=r"o.npy: not readable as features"):
        read(table, tmp_path / "o.npy")
    assert not (tmp_path / "run").exists()


def test_empty_folders_and_names_that_do_not_fit_are_said(table: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "empty" / "other1.npy", numbers(3))
    np.save(tmp_path / "empty" / "other2.npy", numbers(3))
    with pytest.raises(
        MediError, match=r"no slide of the table has features: slides s0, s1, .* features other1, other2"
    ):
        read(table, tmp_path / "empty")
    for file in (tmp_path / "empty").iterdir():
        file.unlink()
    with pytest.raises(MediError, match=r"empty: no features here \(.h5"):
        read(table, tmp_path / "empty")
    with pytest.raises(MediError, match="no such file or folder of features"):
        read(table, tmp_path / "nowhere")


@pytest.mark.parametrize(("package", "form"), [("h5py", "CLAM .h5"), ("zarr", "Zarr 2")])
def test_a_package_that_lacks_is_one_sentence(
    package: str, form: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FORMS[form](tmp_path / "f")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MediError, match=rf"needs {package}: pip install 'medi-histo\[tables\]'"):
        read(table, folder)


def test_constant_features_are_noted(table: Path, tmp_path: Path) -> None:
    folder = a_file_a_slide(tmp_path / "f", lambda file, x, c: np.save(file, np.full_like(x, 0.1)), ".npy")
    assert "6 of 6 features are the same in all rows" in "\n".join(read(table, folder).notes)


@pytest.mark.slow
def test_a_file_that_says_itself_what_it_is_of_is_a_source(tmp_path: Path) -> None:
    cohort = facade.read(anndata(tmp_path / "patches.h5ad", N), **ROLES)
    assert len(cohort) == N * len(SLIDES)
    assert cohort.table["patient"].nunique() == len(SLIDES)
    assert cohort.info["features"]["encoder"] == "uni_v1"
    with pytest.raises(MediError, match="no column of the class; name the table that has it"):
        facade.read(FORMS["CLAM .h5"](tmp_path / "folder"))
    with pytest.raises(MediError, match="no column of the class"):  # x and y are coordinates, no labels
        facade.read(FORMS["Parquet of columns"](tmp_path / "tables"), kind="features")
    np.savez(tmp_path / "bare.npz", features=numbers(3))
    with pytest.raises(MediError, match="no column of the class; name the table that has it: `medi audit TABLE"):
        facade.read(tmp_path / "bare.npz")


@pytest.mark.slow
def test_what_needs_images_says_so_in_one_sentence(table: Path, tmp_path: Path, medi: Medi) -> None:
    FORMS["CLAM .h5"](tmp_path / "features")
    done = medi(
        "audit", table.name, "--features", "features", "--label", "diagnosis", "--attributes", "site", "--out", "a"
    )
    assert "48 patches, 12 slides" in fine(done)
    for words in (
        ["pack", "a", "--size", "32"],
        ["train", "a"],
        ["embed", "a"],
    ):
        refused(medi(*words, "--out", "out"), "needs images; this cohort has features alone")
    assert json.loads((tmp_path / "a" / "cohort.json").read_text())["info"]["features"]["width"] == 6
    assert readers.read(tmp_path / "a").has_features
