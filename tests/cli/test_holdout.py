"""The verb holdout and its check, as a user runs them after an audit."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.plan import write_rows
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from shared_data import TCGA, real

CODES = ["--clinical", TCGA / "slides.csv", "--sites", TCGA / "tissue_source_sites.tsv"]


@pytest.mark.slow
def test_chain_from_a_csv_to_rows_and_pixels_p5(medi: Medi, source: Path) -> None:
    shown = fine(medi("audit", source, "--attributes", "site", "--out", "a"))
    assert "label from column 'label'" in shown, "guesses are printed"
    assert "48 patches, 24 slides, 24 patients, 2 classes" in shown
    assert json.loads(Path("a/audit.json").read_text())["size"]["patches"] == 48
    assert Image.open("a/counts.png").size[0] > 100
    assert len(pd.read_parquet("a/association.parquet")) == 3
    shown = fine(medi("holdout", "a", "--held", "a x NA", "--over", "class,site", "--out", "h"))
    assert "1 of 6 combinations held out" in shown
    assert "certificate holds: 48 patches" in fine(medi("holdout", "verify", "h"))
    assert "holds" in fine(medi("holdout", "verify", source, "--attributes", "site", "--certificate", "h"))
    table = Cohort.load(Path("h")).table
    held = (table["class"] == "a") & (table["site"] == "NA")
    assert (table["split"] == "test_unseen").equals(held)
    shown = fine(medi("plan", "h", "--to", "20", "--out", "p"))
    rows = pd.read_parquet("p/rows.parquet")
    new = rows[rows["request"] == "new combination"]
    assert set(zip(new["class"], new["site"])) == {("a", "NA")}
    assert len(new) == 20
    assert "new combination" in shown
    fine(medi("pack", "h", "--size", "8", "--workers", "1", "--out", "k"))
    packed = Cohort.load(Path("k"))
    assert packed.images[:].shape == (48, 8, 8, 3)
    assert packed.images[np.array([7])][0, 0, 0].tolist() == [35, 90, 120]
    assert packed.table["split"].equals(table["split"])
    assert "holds" in fine(medi("holdout", "verify", "k", "--certificate", "h"))
    fine(medi("pack", "h", "--size", "8", "--workers", "1", "--out", "k"))
    refused(medi("pack", "k", "--size", "8"), "packed already")


@pytest.mark.slow
def test_phantom_chain_in_place(medi: Medi, tmp_path: Path) -> None:
    """A packed cohort gets its split in its own folder, or in another one, whose pixels are the same file."""
    phantom.cohort(0, 32, 240).save(tmp_path / "c")
    fine(medi("audit", "c", "--out", "a"))
    fine(medi("holdout", "c", "--rate", "0.2", "--seed", "3", "--out", "c"))
    packed = Cohort.load(tmp_path / "c")
    assert len(packed.images) == 240
    assert set(packed.table["split"]) >= {"train", "test_unseen"}
    fine(medi("holdout", "verify", "c"))
    fine(medi("holdout", "c", "--rate", "0.2", "--seed", "4", "--out", "other"))
    assert (tmp_path / "other" / "pixels.npy").samefile(tmp_path / "c" / "pixels.npy")
    assert np.array_equal(Cohort.load(tmp_path / "other").images[:], packed.images[:])
    refused(medi("audit", "a", "--out", "c"), "holds a cohort with a split, which would be lost")
    phantom.cohort(1, 32, 60).save(tmp_path / "d")
    refused(medi("audit", "d", "--out", "c"), "holds a packed cohort that is not d")
    for options in (["--rule", "held-out", "-n", "5"], ["--rule", "match"], ["--rule", "union", "-n", "3"]):
        fine(medi("plan", "c", *options, "--out", options[1]))
        rows = pd.read_parquet(f"{options[1]}/rows.parquet")
        assert len(rows)
        assert rows["sample_id"].is_unique
    fine(medi("holdout", "c", "--rule", "sites", "--over", "site", "--folds", "4", "--fold", "1", "--out", "s"))
    fine(medi("holdout", "verify", "s"))


@pytest.mark.slow
def test_certificate_that_does_not_hold(medi: Medi, source: Path) -> None:
    fine(medi("holdout", source, "--attributes", "site", "--out", "h"))
    source.write_text(source.read_text().replace("0.png,a,", "0.png,b,"))
    code, shown = medi("holdout", "verify", source, "--attributes", "site", "--certificate", "h")
    assert code == 1
    assert "does not hold: labels have changed" in shown


@pytest.mark.slow
def test_control_characters_are_escaped_p11(medi: Medi, source: Path) -> None:
    text = source.read_text().replace(",site\n", ",si\x1b[2Jte\n").replace(",X\n", ",[red]\x1b]0;X\n")
    source.write_text(text)
    shown = fine(medi("holdout", source, "--attributes", "si\x1b[2Jte", "--held", "a x [red]\x1b]0;X"))
    assert "\x1b[2J" not in shown
    assert "[red]" in shown


@pytest.mark.slow
@real
def test_tcga_slides_raise_the_alarm_for_codes_not_for_hospitals(medi: Medi) -> None:
    attributes = ["--attributes", "site_code,hospital,race,gender,age", "--continuous", "age"]
    shown = fine(medi("audit", TCGA / "slides.csv", *CODES, *attributes, "--out", "a"))
    assert "8,726 slides, 7,168 patients, 32 classes" in shown
    assert shown.count("ALARM") == 1
    assert "site_code gives the class away" in shown
    found = pd.read_parquet("a/association.parquet").query("unit == 'slide'").set_index("attribute")
    assert found["levels"]["site_code"] == 626
    assert found["cramers_v"]["site_code"] == pytest.approx(1.0, abs=5e-4)
    assert found["cramers_v_corrected"]["site_code"] == pytest.approx(0.965, abs=5e-4)
    assert found["determination"]["hospital"] == pytest.approx(0.581, abs=1e-3), "spelling variants merged"
    shown = fine(medi("holdout", "a", "--rule", "published", "--over", "site_code,gender,race", "--out", "h"))
    split = Cohort.load(Path("h")).table
    for side, name in (("train", "train"), ("test_unseen", "holdout")):
        published = pd.read_csv(TCGA / f"published_{name}.csv", dtype=str, keep_default_na=False)
        assert set(split["slide"][split["split"] == side]) == set(published["slide_submitter_id"])


@pytest.mark.slow
def test_another_result_is_not_overwritten_p15(medi: Medi, source: Path) -> None:
    """Before, a certificate vanished silently. What differs is named; the same again is fine."""
    made = (("audit", source), ("holdout", "a"), ("plan", "h", "--to", 9))
    for command, out in [*zip(made, "ahp"), *zip(made, "ahp")]:
        fine(medi(*command, "--out", out))
    before = {path: path.read_bytes() for out in "ahp" for path in Path(out).iterdir()}
    lines = source.read_text().splitlines()
    other = source.with_name("other.csv")
    other.write_text("\n".join(lines[:-9]) + "\n")
    for command, words in (
        (("audit", other, "--out", "a"), "a: holds another cohort: 48 patches"),
        (("holdout", other, "--out", "a"), "a: holds another cohort: 48 patches"),
        (("holdout", "a", "--seed", 1, "--out", "h"), "h: holds another hold-out: seed 0, now 1"),
        (("holdout", "a", "--rate", 0.5, "--out", "h"), "h: holds another hold-out: rule.rate 0.3, now 0.5"),
        (("plan", "h", "--to", 12, "--out", "p"), "p: holds another plan: images "),
    ):
        refused(medi(*command), words, "choose another --out, or delete it")
    with pytest.raises(MediError, match="holds the rows of another seed"):
        write_rows(Path("p"), pd.read_parquet("p/rows.parquet").iloc[::-1])
    assert all(path.read_bytes() == content for path, content in before.items())
    with pytest.raises(MediError, match=r"a: holds another audit: .*size\.patches 48, now 24"):
        Cohort.load("a").select(np.arange(24)).audit().save("a")


@pytest.mark.slow
def test_nothing_is_written_among_images_p15(medi: Medi, source: Path) -> None:
    folder = source.parent
    before = sorted(path.name for path in folder.iterdir())
    for out in (folder, folder.parent):
        for verb in ("audit", "holdout"):
            refused(medi(verb, source, "--out", out), "is a folder of images (", "choose another --out")
    fine(medi("audit", source, "--out", "a"))
    with pytest.raises(MediError, match="is a folder of images"):
        Cohort.load("a").plan(to=2).save(folder)
    assert sorted(path.name for path in folder.iterdir()) == before
