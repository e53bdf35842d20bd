"""The verbs audit, holdout, plan and pack as a user runs them: each one's output is the next one's input."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.table import Cohort

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.exists(), reason="needs ../shared")
TCGA = DATA / "tcga"
CODES = ["--clinical", TCGA / "slides.csv", "--sites", TCGA / "tissue_source_sites.tsv"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """metadata.csv beside 48 images: 2 classes x 3 sites x 4 patients x 2 patches."""
    rows = ["image,label,patient,slide,site"]
    (tmp_path / "own").mkdir()
    for i, (label, site, patient, _patch) in enumerate(np.ndindex(2, 3, 4, 2)):
        Image.new("RGB", (12, 12), (5 * i, 90, 120)).save(tmp_path / "own" / f"{i}.png")
        who = f"P{label}{site}{patient}"
        rows.append(f"{i}.png,{'ab'[label]},{who},S{who},{('NA', '02', 'X')[site]}")
    path = tmp_path / "own" / "metadata.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


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


def test_phantom_chain_in_place(medi: Medi, tmp_path: Path) -> None:
    """A packed cohort gets its split in its own folder; elsewhere only the table is written."""
    phantom.cohort(0, 32, 240).save(tmp_path / "c")
    fine(medi("audit", "c", "--out", "a"))
    fine(medi("holdout", "c", "--rate", "0.2", "--seed", "3", "--out", "c"))
    packed = Cohort.load(tmp_path / "c")
    assert len(packed.images) == 240
    assert set(packed.table["split"]) >= {"train", "test_unseen"}
    fine(medi("holdout", "verify", "c"))
    fine(medi("holdout", "c", "--rate", "0.2", "--seed", "4", "--out", "other"))
    assert Cohort.load(tmp_path / "other").pixels is None
    refused(medi("audit", "a", "--out", "c"), "holds a packed cohort that is not a")
    for options in (["--rule", "held-out", "-n", "5"], ["--rule", "match"], ["--rule", "union", "-n", "3"]):
        fine(medi("plan", "c", *options, "--out", "p"))
        rows = pd.read_parquet("p/rows.parquet")
        assert len(rows)
        assert rows["sample_id"].is_unique
    fine(medi("holdout", "c", "--rule", "sites", "--over", "site", "--folds", "4", "--fold", "1", "--out", "s"))
    fine(medi("holdout", "verify", "s"))


def test_plan_from_a_table_and_by_name(medi: Medi, source: Path) -> None:
    fine(medi("holdout", source, "--attributes", "site", "--held", "a x NA", "--out", "h"))
    Path("wanted.csv").write_text("class,site,n\na,NA,4\nb,02,1\n")
    fine(medi("plan", "h", "--table", "wanted.csv", "--out", "p"))
    counts = pd.read_parquet("p/rows.parquet").groupby(["class", "site"]).size()
    assert counts.to_dict() == {("a", "NA"): 4, ("b", "02"): 1}
    fine(medi("plan", "h", "--wanted", "b x X", "-n", "7", "--out", "q"))
    assert len(pd.read_parquet("q/rows.parquet")) == 7
    fine(medi("holdout", source, "--attributes", "site", "--over", "site", "--held", "X", "--out", "u"))
    refused(medi("plan", "u", "--rule", "held-out", "-n", "2"), "training has no row of one of these levels")
    fine(medi("plan", "u", "--rule", "held-out", "-n", "2", "--allow-unseen", "--out", "r"))
    assert set(pd.read_parquet("r/rows.parquet")["request"]) == {"unseen level"}


def test_certificate_that_does_not_hold(medi: Medi, source: Path) -> None:
    fine(medi("holdout", source, "--attributes", "site", "--out", "h"))
    source.write_text(source.read_text().replace("0.png,a,", "0.png,b,"))
    code, shown = medi("holdout", "verify", source, "--attributes", "site", "--certificate", "h")
    assert code == 1
    assert "does not hold: labels have changed" in shown


def test_alarm_is_seen_and_undefined_is_said_p7(medi: Medi, source: Path) -> None:
    lines = source.read_text().splitlines()
    coded = [lines[0] + ",code,one", *(f"{line},{line.split(',')[1]}{i % 2},same" for i, line in enumerate(lines[1:]))]
    source.write_text("\n".join(coded) + "\n")
    shown = fine(medi("audit", source, "--attributes", "code,one"))
    assert "ALARM" in shown
    assert "code (nearly) determines the class" in shown
    assert "undefined" in shown
    assert "only one one occurs" in shown


def test_control_characters_are_escaped_p11(medi: Medi, source: Path) -> None:
    text = source.read_text().replace(",site\n", ",si\x1b[2Jte\n").replace(",X\n", ",[red]\x1b]0;X\n")
    source.write_text(text)
    shown = fine(medi("holdout", source, "--attributes", "si\x1b[2Jte", "--held", "a x [red]\x1b]0;X"))
    assert "\x1b[2J" not in shown
    assert "[red]" in shown


def test_bad_input_is_one_line_p12(medi: Medi, source: Path) -> None:
    refused(medi("audit", "nowhere.csv"), "no such file or folder")
    refused(medi("audit", source, "--label", "diagnosis"), "no column 'diagnosis' for label")
    refused(medi("audit", source, "--pattern", "x"), "reader table has no option 'pattern'")
    refused(medi("audit", source, "--kind", "dicom"), "no reader 'dicom'")
    refused(medi("audit", source, "--nonsense"), "No such option")
    refused(medi("audit", source, "--on-error", "guess"), "expected skip or fail")
    refused(medi("audit", source, "--group-rare", "site"), "expected COLUMN=N")
    refused(medi("holdout", source, "--attributes", "site", "--rate", "2"), "rate")
    refused(medi("holdout", source, "--rule", "sites", "--rate", "0.1"), "--rate goes with --rule random")
    refused(medi("holdout", source, "--attributes", "site", "--held", "a x nowhere"), "no patch has this combination")
    refused(medi("plan", source.parent), "no cohort folder")
    refused(medi("audit", source, "--out", source), "cannot be written")
    refused(medi("pack", source, "--size", "8", "--workers", "1", "--out", source), "cannot be written")
    refused(medi("pack", source, "--size", "0"), "--size")
    source.write_bytes(source.read_bytes() + b"k.png,a,P\xe9,S9,X\n")
    refused(medi("audit", source), "is not UTF-8")


def test_bad_images_fail_by_name_or_are_listed(medi: Medi, source: Path) -> None:
    (source.parent / "3.png").write_bytes(b"no image")
    (source.parent / "4.png").unlink()
    refused(medi("audit", source), "line 6")
    shown = fine(medi("audit", source, "--attributes", "site", "--on-error", "skip", "--out", "a"))
    assert "left out, no such image file: 1" in shown
    refused(medi("pack", "a", "--size", "8", "--workers", "1", "--out", "k"), "3.png: no image format")
    shown = fine(medi("pack", "a", "--size", "8", "--workers", "1", "--on-error", "skip", "--out", "k"))
    assert "left out: 3.png" in shown
    assert len(Cohort.load(Path("k"))) == 46


def test_tar_with_a_path_outside_is_refused_p11(medi: Medi, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("../evil.jpg", b"x"), ("s/1.jpg", b"x"), ("s/1.json", b'{"label": "a"}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    refused(medi("audit", "x.tar"), "'..' paths are refused")
    assert "left out, links" in fine(medi("audit", "x.tar", "--on-error", "skip"))
    assert not (tmp_path.parent / "evil.jpg").exists()


def test_audit_starts_without_torch() -> None:
    code = "import sys; import medi.cli.main; from medi.cohort import audit, readers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_option_of_the_process_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medi.cli", "plan", "--no"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_interruption_says_how_to_go_on_p12(medi: Medi, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("medi.cohort.packing.pack_unit", interrupted)
        code, shown = medi("pack", source, "--size", "8", "--workers", "1", "--out", "k")
    assert code == 130
    assert "the same command goes on" in shown
    fine(medi("pack", source, "--size", "8", "--workers", "1", "--out", "k"))
    assert len(Cohort.load(Path("k")).images) == 48


def test_pack_crops_and_tiles_at_a_resolution_p5(medi: Medi, source: Path) -> None:
    """12-px images of 0.25 um a pixel: 6 px at 0.5, so one crop of 4 px or one tile of 4 and none of 8."""
    common = ["--mpp", "0.25", "--to-mpp", "0.5", "--workers", "1"]
    fine(medi("pack", source, *common, "--size", "3", "--mode", "tile", "--out", "tiles"))
    tiles = Cohort.load(Path("tiles"))
    assert len(tiles) == 4 * 48
    assert set(tiles.table["mpp"]) == {0.5}
    assert tiles.table.groupby("slide")["patient"].nunique().max() == 1
    fine(medi("pack", source, *common, "--size", "4", "--mode", "crop", "--out", "crops"))
    assert Cohort.load(Path("crops")).images[:].shape == (48, 4, 4, 3)
    refused(medi("pack", source, *common, "--size", "8", "--mode", "crop", "--out", "big"), "0.png")
    refused(medi("pack", source, "--to-mpp", "0.5", "--size", "4", "--mode", "crop", "--out", "big"), "mpp")


@pytest.mark.parametrize("verb", ["audit", "holdout", "plan", "pack"])
def test_help_shows_an_example(medi: Medi, verb: str) -> None:
    assert f"Example: medi {verb} " in fine(medi(verb, "--help"))


@real
def test_tcga_slides_raise_the_alarm_for_codes_not_for_hospitals(medi: Medi) -> None:
    attributes = ["--attributes", "site_code,hospital,race,gender,age", "--continuous", "age"]
    shown = fine(medi("audit", TCGA / "slides.csv", *CODES, *attributes, "--out", "a"))
    assert "8,726 slides, 7,168 patients, 32 classes" in shown
    assert shown.count("ALARM") == 1
    assert "site_code (nearly) determines the class" in shown
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


@real
def test_ratio_of_hospitals_as_written_and_with_aliases_merged(medi: Medi, tmp_path: Path) -> None:
    """1 - H(class | hospital) / H(class) .602 with GDC's names as written, .508 with aliases."""
    slides = pd.read_csv(TCGA / "slides.csv", dtype=str, keep_default_na=False)
    codes = pd.read_csv(TCGA / "tissue_source_sites.tsv", sep="\t", dtype=str, keep_default_na=False)
    written = slides["slide_submitter_id"].str.split("-").str[1].map(codes.set_index("TSS Code")["Source Site"])
    slides.assign(written=written).to_csv(tmp_path / "s.csv", index=False)
    fine(medi("audit", "s.csv", *CODES, "--merge-aliases", "--attributes", "written,hospital", "--out", "a"))
    found = pd.read_parquet("a/association.parquet").query("unit == 'slide'").set_index("attribute")
    assert found["determination"].to_dict() == pytest.approx({"written": 0.602, "hospital": 0.508}, abs=1e-3)
    assert not json.loads(Path("a/audit.json").read_text())["alarms"]


@real
@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (["ami_br", "--attributes", "domain"], 3720),
        (["tcga_fields", "--mpp", "0.25"], 44),
    ],
)
def test_real_folders_are_one_command(medi: Medi, command: list[str], rows: int) -> None:
    fine(medi("audit", DATA / command[0], *command[1:], "--out", "a"))
    assert len(Cohort.load(Path("a"))) == rows


@real
def test_the_audit_says_that_site_and_scanner_of_ami_br_cannot_be_told_apart(medi: Medi) -> None:
    shown = fine(medi("audit", DATA / "ami_br", "--attributes", "site,scanner", "--out", "a"))
    assert "site and scanner cannot be told apart: each scanner (nearly) belongs to one site" in " ".join(shown.split())


@real
def test_images_without_labels_are_one_command(medi: Medi) -> None:
    """Camelyon17's tiles have a hospital and no class: there is nothing to audit, but they can be packed."""
    pattern = r"domain_(?P<hospital>\d)_"
    fine(medi("pack", DATA / "camelyon17", "--pattern", pattern, "--size", "64", "--workers", "1", "--out", "k"))
    packed = Cohort.load(Path("k"))
    assert packed.images[:].shape == (25, 64, 64, 3)
    assert packed.schema.attribute("hospital").levels == ("0", "1", "2", "3", "4")
    refused(medi("audit", "k"), "no row has a known class")
