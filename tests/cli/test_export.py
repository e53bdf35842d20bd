"""The verb export as a user runs it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi import read
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.codes import KEY, code_of, key_of
from small_cohorts import CLASSES


@pytest.mark.slow
def test_a_pipeline_folder(verb: Medi) -> None:
    options = ("--class-name", "cancer", "--data-licence", "CC BY 4.0")
    refused(
        verb("export", "m", *options), "m/model.safetensors: no test for memorisation", "medi fidelity", "--untested"
    )
    shown = fine(verb("export", "m", "--out", "p", "--untested", *options))
    assert "Not tested: no test for memorisation" in shown
    assert "pipeline and model card: " in shown
    assert "next: python -c " in shown
    assert {path.name for path in Path("p").iterdir()} == {"model_index.json", "pipeline.py", "denoiser", "README.md"}
    text = Path("p/README.md").read_text()
    assert "| LUAD | Asterand 9 | NA, X |" in text
    assert "CC BY 4.0" in text
    refused(verb("export", "none"), "none: no such checkpoint")


@pytest.mark.slow
def test_a_model_of_a_run_is_judged_by_the_result_of_the_run(quick_run: tuple[Path, str], medi: Medi) -> None:
    """It is so small that copies cannot be told, and the run says why."""
    told = medi("export", quick_run[0] / "models" / "medi", "--out", "p")
    refused(told, "reserved patches: 19 are needed for a threshold; --untested exports it without")
    assert not Path("p").exists()


ODD = {"Alder": "../Alder & Söhne", "Birch": "NA"}  # names of sites that must not become paths, or missing values


@pytest.fixture
def odd(folders: Path, medi: Medi) -> Cohort:
    """Samples with names that are no file names, some of unknown class; packed in the folder `samples`."""
    good = Cohort.load(folders / "good")
    ids = [f"{'aA'[i % 2]}/{i // 2}" for i in range(len(good))]
    table = good.table.assign(site=good.table["site"].replace(ODD), sample_id=ids, patient="P1", slide="S1")
    table.loc[table.index[:5], "class"] = ""
    Cohort(table, Schema.infer(table, ["site"]), good.pixels, good.info).save("samples")
    return Cohort.load("samples")


def check_same(found: Cohort, odd: Cohort, named: bool = True) -> None:
    """Labels, names and pixels are those that were exported."""
    packed = found.pack("packed", size=odd.images.size, workers=1)
    order = packed.table["site"].groupby([packed.table["site"], packed.table["class"]]).size()
    assert order.equals(odd.table["site"].groupby([odd.table["site"], odd.table["class"]]).size())
    assert set(packed.table["patient"]) == {"P1"}
    if named:
        assert set(packed.table["sample_id"]) == set(odd.table["sample_id"])
        places = odd.table.reset_index().set_index("sample_id")["index"].loc[packed.table["sample_id"]]
        np.testing.assert_array_equal(packed.images[:], odd.images[:][places.to_numpy()])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "csv"])
def test_images_and_their_table_are_read_again_p11(form: str, odd: Cohort, medi: Medi) -> None:
    shown = fine(medi("export", "samples", "--as", form, "--keep-ids", "--out", "images"))
    assert shown.splitlines()[-1] == "next: medi audit images"
    check_same(read("images", attributes=["site"]), odd)
    paths = list(Path("images").rglob("*"))
    assert {path.suffix for path in paths if path.is_file()} == {".png", ".csv"}
    assert len({path.name.casefold() for path in paths if path.suffix == ".png"}) == len(odd), "on any file system"
    folders = {path.name for path in Path("images").iterdir() if path.is_dir()}
    assert folders == ({*CLASSES, "unknown"} if form == "folder" else {"images"})
    refused(medi("export", "samples", "--as", form, "--out", "images"), "images: is a folder of images")
    refused(medi("export", "samples", "--as", "tar"), "expected folder, webdataset, csv")
    refused(medi("export", "samples"), "samples: is a cohort", "--as folder")
    refused(medi("export", "samples", "--as", form, "--untested"), "--as does not go with --untested")


@pytest.mark.slow
def test_tars_are_read_again(odd: Cohort, medi: Medi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medi.export.images.SHARD", 50)
    fine(medi("export", "samples", "--as", "webdataset", "--keep-ids", "--out", "tars"))
    assert sorted(path.name for path in Path("tars").iterdir()) == [f"{i:06d}.tar" for i in range(-(-len(odd) // 50))]
    check_same(read("tars", attributes=["site"]), odd, named=False)


@pytest.mark.slow
def test_names_of_patients_stay_at_home_with_their_key(odd: Cohort, medi: Medi) -> None:
    """Two exports of one cohort agree; what is given away holds neither key nor name."""
    for out in ("one", "two"):
        fine(medi("export", "samples", "--as", "csv", "--out", out))
    assert Path("one/metadata.csv").read_bytes() == Path("two/metadata.csv").read_bytes()
    table = pd.read_csv("one/metadata.csv", dtype=str)
    assert set(table["patient"]) == {code_of(key_of(Path("samples")), "patient", "P1")}
    assert not set(table["sample_id"]) & set(odd.table["sample_id"])
    assert not list(Path("one").rglob(KEY))


def test_a_folder_that_is_refused_gets_no_key_made_p15(odd: Cohort, medi: Medi) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    refused(medi("export", "samples", "--as", "csv", "--out", "mine"), "mine: is there already")
    assert not Path("samples", KEY).exists()


def test_a_folder_of_images_appears_whole_or_not_at_all_p12(
    odd: Cohort, medi: Medi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(medi("export", "samples", "--as", "csv", "--out", "images"), "images: cannot be written (No space left")
    assert sorted(path.name for path in Path().iterdir()) == ["samples"]
