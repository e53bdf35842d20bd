"""The verbs report and doctor on a run folder."""

from pathlib import Path

import tiny_run
from command_line import Medi, fine, refused


def test_the_page_is_written_again_and_all_is_well(medi: Medi) -> None:
    run = tiny_run.write_run(Path("run"))
    shown = fine(medi("report", run))
    assert (run / "report.html").stat().st_size > 10_000
    assert shown.splitlines() == ["report: run/report.html", "next: medi app run"]
    assert "all is well" in fine(medi("doctor", run))
    (run / "cohort" / "cohort.json").write_text("{")
    code, shown = medi("doctor", run)
    assert code == 1
    assert "BROKEN" in shown


def test_a_folder_without_results(medi: Medi) -> None:
    refused(medi("report", "nowhere"), "nowhere")
