"""Each verb that writes ends with the next one to type, with paths as a shell wants them."""

import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_run
from command_line import Medi, fine, refused
from medi.cli.next_step import after_reading, program
from medi.cohort import phantom
from medi.cohort.combinations import counts
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.study.beside import packed_for
from medi.training.loop import check_size
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
    assert following(fine(medi("plan", "my holdout"))) == ["pack", "my holdout", "--size", "64"], "no model yet"
    assert following(fine(medi("plan", "my packed"))) == ["train", "my packed"]


def test_what_follows_a_cohort_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Defects: a cohort with a split was to be split again, and one of classes alone to be held out in part."""
    tissue = phantom.cohort(0, 32, 30)
    split = tissue.with_columns(split="train")
    bare = replace(split, pixels=None)
    for cohort, words in (
        (tissue, "holdout c"),
        (replace(tissue, schema=tissue.schema.restrict([])), "holdout c --rate 0"),
        (split, "train c --preset laptop32"),
        (bare, "plan c"),
        (replace(bare, info={"root": "images"}), "pack c --size 64"),
        (replace(bare.with_columns(features="f"), info={"features": {}}), "utility c"),
        (tissue.with_columns(origin="model"), "export c --as folder"),
    ):
        after_reading(cohort, Path("c"))
        assert capsys.readouterr().out == f"next: medi {words}\n"


@pytest.mark.slow
def test_no_step_leads_to_a_verb_that_refuses(medi: Medi, verb: Medi) -> None:
    """Defect: the split of a run or of a packed cohort could neither be planned from nor given to its patches."""
    tissue = phantom.cohort(0, 32, 30)
    whole, split = tissue.save("whole"), tissue.hold_out(rate=0.1)
    split.save("a")
    split.holdout.save("b")
    assert following(fine(medi("plan", "a", "--rule", "held-out", "-n", 1))) == ["train", "a", "--preset", "laptop32"]
    words = following(fine(medi("holdout", "verify", whole, "--certificate", "b")))
    assert words == ["holdout", "whole", "--certificate", "b"]
    assert following(fine(medi(*words))) == ["train", "medi-holdout", "--preset", "laptop32"]
    assert Cohort.load("medi-holdout").table.equals(split.table)
    tissue.select(np.arange(9)).save("few")
    refused(medi("holdout", "few", "--certificate", "b", "--out", "c"), "b: the certificate does not hold")
    refused(medi("holdout", whole, "--certificate", "b", "--rate", "0.1"), "--rate does not go with it")
    shutil.move("m", "models/m")
    refused(medi("sample", ".", "plan.csv"), "name one of models/m")
    refused(medi("train", "models"), "`medi pack models --size 64 --out my-pack`")
    refused(medi("train", whole), "`medi holdout whole --out split`")
    refused(medi("plan", whole), "no patch is for training")
    refused(medi("audit", tiny_run.write_run(Path("run"))), "is a run; name its cohort, run/cohort")


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
    assert following(fine(medi("plan", "h"))) == ["pack", "h", "--size", "64"]
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
    assert following(fine(medi("plan", "h"))) == ["pack", "h", "--size", "64"]


def test_the_cohort_of_a_model_is_found_beside_it(tmp_path: Path) -> None:
    """Defect: a cohort that `medi pack` did not write was never named, nor one beside the model and not the samples."""
    split = phantom.cohort(0, 32, 30).with_columns(split="train")
    split.save(tmp_path / "split")
    split.with_columns(split="validation").save(tmp_path / "other")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/cohort.json").write_text("{}")
    model(str(tmp_path / "m"), **trained_on(str(tmp_path / "split")))
    assert packed_for(tmp_path / "m/model.safetensors", tmp_path / "elsewhere/samples") == tmp_path / "split"
    with pytest.raises(MediError, match="pack them to that size, or take the preset demo or laptop32"):
        check_size(split, NetworkSettings(size=64))


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
