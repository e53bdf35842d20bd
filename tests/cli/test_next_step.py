"""Each verb that writes ends with the next one to type, with paths as a shell wants them."""

import os
import shlex
import sys
from pathlib import Path

import pytest

import tiny_run
from command_line import Medi, fine
from medi.cli.next_step import program


def following(shown: str) -> list[str]:
    """The words of the last line, without "next:" and "medi"."""
    line = shown.splitlines()[-1]
    assert line.startswith("next: medi "), shown
    return shlex.split(line)[2:]


@pytest.mark.slow
def test_the_steps_lead_from_a_table_to_training(medi: Medi, source: Path) -> None:
    """Folders with blanks in their names are quoted."""
    words = following(fine(medi("audit", source, "--attributes", "site", "--out", "my audit")))
    assert words == ["holdout", "my audit"]
    words = following(fine(medi(*words, "--out", "my holdout")))
    assert words == ["pack", "my holdout", "--size", "64"]
    small = following(fine(medi(*words[:2], "--size", 32, "--workers", 1, "--out", "small")))
    assert small == ["train", "small", "--preset", "laptop32"]
    words = following(fine(medi(*words[:2], "--size", 8, "--workers", 1, "--out", "my packed")))
    assert words == ["train", "my packed"]
    assert following(fine(medi("plan", "my holdout"))) == ["sample", "medi-model", "medi-plan"]
    Path("my model").mkdir()
    Path("my model/model.safetensors").touch()
    assert following(fine(medi("plan", "my holdout"))) == ["sample", "my model", "medi-plan"]


@pytest.mark.slow
def test_measures_lead_on_with_the_same_cohorts(medi: Medi, folders: Path) -> None:
    real, good = folders / "real", f"good={folders / 'good'}"
    assert following(fine(medi("embed", real))) == ["fidelity", str(real)]
    words = following(fine(medi("fidelity", real, good, "--over", "class,site", "--n", "8", "--draws", "0")))
    assert words == ["utility", str(real), good, "--over", "class,site"]
    words = following(fine(medi(*words, "--arms", "none")))
    measured = ["--fidelity", "medi-fidelity", "--utility", "medi-utility"]
    assert words == ["report", "--real", str(real), good, *measured]
    assert following(fine(medi(*words))) == ["export", str(folders / "good"), "--as", "folder"]
    page = Path("medi-report/report.html").read_text()
    assert "Mean recall over combinations by training set" in page
    assert "good" in page
    assert Path("medi-report/sheet/cohort.json").exists()
    assert "report: medi-report/report.html" in fine(medi(*words)), "again"


@pytest.mark.slow
def test_models_lead_on_to_what_lies_beside_them(medi: Medi, verb: Medi, source: Path) -> None:
    fine(medi("holdout", source, "--validation", "0", "--out", "h"))
    fine(medi("pack", "h", "--size", 32, "--workers", 1, "--out", "packed"))
    words = following(fine(medi("train", "packed", "--preset", "demo", "--images", 32)))
    assert words == ["plan", "packed"]
    assert following(fine(medi(*words))) == ["sample", "medi-model", "medi-plan"]
    words = following(fine(verb("sample", "m", "plan.csv", "--steps", 2, "--batch", 8)))
    assert words == ["fidelity", "packed", "medi=medi-samples"]


@pytest.mark.slow
def test_checks_lead_on(medi: Medi, source: Path) -> None:
    fine(medi("holdout", source, "--out", "h"))
    assert following(fine(medi("holdout", "verify", "h"))) == ["pack", "h", "--size", "64"]
    words = ("holdout", "verify", source, "--certificate", "h")
    assert following(fine(medi(*words))) == ["pack", "h", "--size", "64"]
    assert following(fine(medi("doctor"))) == ["demo", "--quick"]
    assert following(fine(medi("doctor", "h"))) == ["audit", "h"]
    run = tiny_run.write_run(Path("run"))
    assert following(fine(medi("doctor", run))) == ["status", "run"]


def test_a_program_that_the_shell_does_not_find_is_called_by_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    Path(".venv/bin").mkdir(parents=True)
    called = tmp_path / ".venv/bin/medi"
    called.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(called)])
    assert program() == ".venv/bin/medi"
    monkeypatch.setenv("PATH", f"{called.parent}{os.pathsep}/usr/bin")
    assert program() == "medi"
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert program() == "medi"
