"""The verb audit as a user runs it: what is read, guessed, and shown."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from command_line import Medi, fine, refused
from medi.cohort.table import Cohort
from shared_data import SHARED, TCGA, real

CODES = ["--clinical", TCGA / "slides.csv", "--sites", TCGA / "tissue_source_sites.tsv"]


@pytest.mark.slow
def test_alarm_is_seen_and_undefined_is_said_p7(medi: Medi, source: Path) -> None:
    lines = source.read_text().splitlines()
    coded = [lines[0] + ",code,one", *(f"{line},{line.split(',')[1]}{i % 2},same" for i, line in enumerate(lines[1:]))]
    source.write_text("\n".join(coded) + "\n")
    shown = fine(medi("audit", source, "--attributes", "code,one"))
    assert "ALARM" in shown
    assert "code gives the class away" in shown
    assert "undefined" in shown
    assert "only one one occurs" in shown


@pytest.mark.slow
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


@pytest.mark.slow
def test_tar_with_a_path_outside_is_refused_p11(medi: Medi, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("../evil.jpg", b"x"), ("s/1.jpg", b"x"), ("s/1.json", b'{"label": "a"}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    refused(medi("audit", "x.tar"), "'..' paths are refused")
    assert "left out, links" in fine(medi("audit", "x.tar", "--on-error", "skip"))
    assert not (tmp_path.parent / "evil.jpg").exists()


@pytest.mark.slow
def test_audit_starts_without_torch() -> None:
    code = "import sys; import medi.cli.main; from medi.cohort import audit, readers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
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


@pytest.mark.slow
@real
@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (["ami_br", "--attributes", "domain"], 3720),
        (["tcga_fields", "--mpp", "0.25"], 44),
    ],
)
def test_real_folders_are_one_command(medi: Medi, command: list[str], rows: int) -> None:
    fine(medi("audit", SHARED / command[0], *command[1:], "--out", "a"))
    assert len(Cohort.load(Path("a"))) == rows


@pytest.mark.slow
@real
def test_the_audit_says_that_site_and_scanner_of_ami_br_cannot_be_told_apart(medi: Medi) -> None:
    shown = fine(medi("audit", SHARED / "ami_br", "--attributes", "site,scanner", "--out", "a"))
    assert "site and scanner cannot be told apart: each scanner (nearly) belongs to one site" in " ".join(shown.split())


@pytest.mark.slow
def test_guesses_are_told_and_unknown_patients_warned_of_p5(medi: Medi, source: Path) -> None:
    """Defect 12: without a column for the patient every patch counts as a patient of its own, which is a leak."""
    shown = fine(medi("audit", source, "--out", "a"))
    for guess in ("label from column 'label'", "patient from column 'patient'", "slide from column 'slide'"):
        assert guess in shown
    assert "attributes guessed: site" in shown
    assert "warning: no column" not in shown
    assert "patient from column 'patient'" in fine(medi("audit", "a", "--out", "b")), "of a cohort folder, too"
    warning = "warning: no column is the patient: each of the 48 patches counts as a patient of its own"
    shown = fine(medi("audit", source, "--patient", "", "--slide", "", "--out", "c"))
    assert warning in shown
    choice = (
        "if the table has such a column, name it (--patient, or --slide at least; in a study file patient: and slide:"
    )
    assert choice in shown, "defect: it asked for a column that is not there"
    assert warning in fine(medi("holdout", source, "--patient", "", "--slide", "", "--out", "h"))
    assert "no column is" not in fine(medi("audit", source, "--patient", "", "--out", "d")), "slides stand for patients"


@pytest.mark.slow
def test_without_an_attribute_it_says_what_cannot_be_judged(medi: Medi) -> None:
    """A folder of classes gave an empty table and "chance nan"."""
    for name in "ab":
        Path("patches", name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8)).save(Path("patches", name, f"{i}.png"))
    shown = fine(medi("audit", "patches", "--out", "a"))
    assert "6 patches, 6 slides, 6 patients, 2 classes" in shown
    assert "warning: no attribute is known (hospital, scanner, laboratory)" in shown
    assert "nan" not in shown
    assert shown.splitlines()[-1] == "next: medi init patches"


@pytest.mark.slow
def test_headings_are_not_broken(medi: Medi, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = fine(medi("audit", source, "--attributes", "site", "--out", "a")).splitlines()
    assert [line for line in lines if line.strip().startswith("attribute ")]
