"""Each verb that writes ends with the next one to type, with paths as a shell wants them."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from command_line import Medi, fine
from medi.cli.next_step import program
from medi.cohort.combinations import counts
from medi.cohort.table import Cohort
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from small_cohorts import MODEL_SCHEMA


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


def model(folder: str, **said: Any) -> None:
    """A tiny model whose header says this of its training."""
    denoiser = Denoiser(NetworkSettings(size=8, fold=4, channels=(8,), layers=1), MODEL_SCHEMA)
    save_model(Path(folder) / "model.safetensors", denoiser, Checkpoint.of(denoiser, **said))


def trained_on(folder: str) -> dict[str, Any]:
    """What a model that was trained on a packed cohort says."""
    cohort = Cohort.load(folder)
    train = cohort.where(split="train")
    return {"info": cohort.info, "combinations": counts(train.table, cohort.schema), "data": train.digest()}


@pytest.mark.slow
def test_a_plan_names_only_a_model_of_its_own_cohort(medi: Medi, source: Path) -> None:
    """Defect: the newest model that lay nearby was named, whatever it was trained on."""
    fine(medi("holdout", source, "--validation", "0", "--out", "h"))
    fine(medi("pack", "h", "--size", 8, "--workers", 1, "--out", "packed"))
    assert following(fine(medi("plan", "h"))) == ["sample", "medi-model", "medi-plan"]
    own = trained_on("packed")
    other = {**own, "info": {"packing": {**own["info"]["packing"], "recipe": "of another cohort"}}}
    for name, said in (("medi-model", other), ("old", {}), ("own model", own), ("less", {**own, "combinations": {}})):
        model(name, **said)
    Path("torn").mkdir()
    Path("torn/model.safetensors").write_bytes(b"torn")
    assert following(fine(medi("plan", "packed"))) == ["sample", "own model", "medi-plan"]
    shutil.rmtree("less")
    assert following(fine(medi("plan", "h"))) == ["sample", "own model", "medi-plan"]
    shutil.rmtree("own model")
    assert following(fine(medi("plan", "h"))) == ["sample", "MODEL", "medi-plan"]


@pytest.mark.slow
def test_tables_of_other_cohorts_are_not_named(medi: Medi, folders: Path) -> None:
    """Defect: `medi utility` led on to the newest tables of `medi fidelity`, also of other cohorts."""
    asked = (folders / "real", f"good={folders / 'good'}")
    fine(medi("fidelity", folders / "good", "--over", "class,site", "--n", 8, "--draws", 0))
    words = following(fine(medi("utility", *asked, "--over", "class,site", "--arms", "none")))
    assert words == ["report", "--real", *map(str, asked), "--utility", "medi-utility"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
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
    assert words == ["fidelity", "medi-packed", "medi=medi-samples"], "m was trained on another cohort"
    words = following(fine(medi("sample", "medi-model", "medi-plan", "--steps", 1, "--out", "mine")))
    assert words == ["fidelity", "packed", "medi=mine"]


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
