"""A run folder of version 0.1 is read: report, doctor, app, settings; going on in one is refused in one sentence."""

import shutil
from pathlib import Path

import pytest

from command_line import Medi, fine, refused
from medi.app.workbench import Workbench
from medi.cohort.audit import Audit
from medi.core.files import read_json, write_json
from medi.report.page import build
from medi.report.run import read
from medi.study import doctor
from medi.study.results import Results
from medi.study.settings import read_study

GOLDEN = Path(__file__).parents[1] / "golden" / "run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy; git keeps no empty folder, and the embeddings can be computed again."""
    folder = shutil.copytree(GOLDEN, tmp_path / "run")
    (folder / "embeddings").mkdir()
    return folder


def test_its_settings_are_read() -> None:
    settings = read_study(GOLDEN / "study.yaml")
    assert settings.title == "Golden run of version 0.1"
    assert settings.evaluation.arms == ("combination_weights",)
    assert settings.holdout.held == (("solid", "Alder"),)


@pytest.mark.slow
def test_its_report_is_written_again(run: Path) -> None:
    page = build(run).read_text(encoding="utf-8")
    assert "Golden run of version 0.1" in page
    found = read(run)
    assert found.certificate.held_out == [{"class": "solid", "site": "Alder"}]
    assert {"real", "cls", "medi", "translated", "oracle"} <= set(found.utility["arm"])
    assert found.results.frechet == read_json(GOLDEN / "results.json")["frechet"]


def test_its_audit_shows_itself() -> None:
    """Version 0.1 wrote neither an interval nor a grade."""
    found = Audit.load(GOLDEN / "audit")
    assert found.title == "40 patches, 10 slides, 10 patients, 2 classes"
    assert found.to_frame()["balanced_accuracy"].tolist() == [0.5]
    assert found.grades() == {"site": ""}
    assert found.summary()[-1].endswith("balanced accuracy 0.50 of patients (chance 0.50)")


@pytest.mark.slow
def test_it_is_sound(run: Path, medi: Medi) -> None:
    assert [finding for finding in doctor.contents(run) if finding.state == "broken"] == []
    assert "run: all 13 stages are finished" in fine(medi("doctor", run))


def test_the_app_opens_it(run: Path, tmp_path: Path) -> None:
    bench = Workbench(run, tmp_path)
    assert list(bench.models) == ["medi"]
    assert bench.crossed == "site"
    assert (len(bench.training), bench.training.images.size) == (20, 32)
    real = bench.real({"class": "solid", "site": "Birch"}, 3)
    assert real is not None
    assert len(real.images) == 3


def test_its_results_show_themselves(run: Path) -> None:
    results = Results.load(run)
    assert results.balanced_accuracy["seen"]["real"] == pytest.approx(11 / 12)
    assert results.gap_closed is None
    assert "Whether a classifier gains is not said: this run is of an older version" in str(results)
    frame = results.to_frame().set_index("training set")
    assert frame.loc["real only", "seen"] == pytest.approx(11 / 12)


def test_going_on_in_it_is_refused_in_one_sentence(run: Path, medi: Medi) -> None:
    shown = medi("run", run / "study.yaml", "--out", run, "--source", run / "cohort")
    refused(shown, "a run of an older version of medi", "choose another --out, or --redo")
    assert read_json(run / "results.json") == read_json(GOLDEN / "results.json")


def test_results_of_single_verbs_have_no_seed(run: Path) -> None:
    """`medi report --real` brings parts together that were made with seeds of their own."""
    content = read_json(run / "results.json")
    del content["seed"]
    write_json(run / "results.json", content)
    assert Results.load(run).seed is None
    assert "seed" not in Results.load(run).title
