"""The verbs report and doctor on a run folder."""

from pathlib import Path

import pytest

import tiny_run
from command_line import Medi, fine, refused
from medi.cohort.table import Cohort


@pytest.mark.slow
def test_the_page_is_written_again_and_all_is_well(medi: Medi) -> None:
    run = tiny_run.write_run(Path("run"))
    shown = fine(medi("report", run))
    assert (run / "report.html").stat().st_size > 10_000
    assert shown.splitlines() == ["report: run/report.html", "next: medi app run"]
    assert "all is well" in fine(medi("doctor", run))
    (run / "report.html").unlink()
    assert fine(medi("report", run, "--out", "apart")).splitlines()[0] == "report: apart/report.html"
    assert not (run / "report.html").exists(), "defect: --out was passed over, and the run's own page written"
    Path("other/tables").mkdir(parents=True)
    refused(medi("report", run, "--out", "other"), "other: holds another result", "choose another --out")
    (run / "cohort" / "cohort.json").write_text("{")
    code, shown = medi("doctor", run)
    assert code == 1
    assert "BROKEN" in shown


def test_a_folder_without_results(medi: Medi) -> None:
    refused(medi("report", "nowhere"), "nowhere")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_study_done_verb_by_verb_has_a_report_of_what_is_there(medi: Medi, folders: Path) -> None:
    real, medi_, cls = folders / "real", f"medi={folders / 'good'}", f"cls={folders / 'flat'}"
    fine(medi("utility", real, medi_, cls, "--over", "class,site", "--arms", "none", "--out", "u"))
    shown = fine(medi("report", "--real", real, medi_, cls, "--utility", "u", "--out", "page"))
    assert shown.startswith("MeDi is a gain: mean recall over all combinations rises by"), "good images"
    assert shown.splitlines()[-2] == "report: page/report.html"
    page = Path("page/report.html").read_text(encoding="utf-8")
    assert "Mean recall over combinations by training set" in page
    assert "is not known (this stage has not run)" in page, "distances were not measured"
    shown = fine(medi("report", "--real", real, "--out", "alone"))
    assert "No classifier has been trained yet" in Path("alone/report.html").read_text(encoding="utf-8")
    fine(medi("report", "page"))


@pytest.mark.slow
def test_parts_that_do_not_belong_together_are_refused(medi: Medi, folders: Path) -> None:
    real, good = folders / "real", folders / "good"
    fine(medi("utility", real, f"medi={good}", "--over", "class,site", "--arms", "none", "--out", "u"))
    refused(medi("report", "--real", real, f"mine={good}", "--utility", "u"), "u: knows no set 'mine'", "real, medi")
    refused(medi("report", "--real", real, "--fidelity", "u"), "u: has no table fidelity.parquet", "medi fidelity")
    refused(medi("report", "--real", real, "--out", "u"), "u: holds something else")
    other = Cohort.load(real)
    other.with_columns(slide=other.table["slide"] + "x").save("other")
    told = medi("report", "--real", "other", f"medi={good}", "--utility", "u")
    refused(told, "u: was measured on another cohort than other; name that one, or measure again")
    told = medi("report", "--real", real, f"medi={folders / 'flat'}", "--utility", "u")
    refused(told, "u: was measured on another cohort than", "flat")
    fine(medi("fidelity", real, f"medi={good}", "--over", "class", "--n", "8", "--draws", "0", "--out", "f"))
    told = medi("report", "--real", real, f"medi={good}", "--utility", "u", "--fidelity", "f")
    refused(told, "were measured with another --over; measure one again")
    refused(medi("report", real, "--utility", "u"), "--utility goes with --real COHORT")
    refused(medi("report"), "expected one run folder")
    assert not Path("medi-report").exists()
