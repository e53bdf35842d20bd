"""The verb run: what it refuses, and what a dry run tells; tests/study run whole studies through it."""

import re
from pathlib import Path

import pytest
import yaml

import tiny_run
from command_line import Medi, fine, refused
from medi.core.files import RUN_FORMAT, read_json, write_json
from medi.study.settings import embedded_study


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("plan: {too: 3}", ["plan.too: no such key; known: to, minimum", "did you mean 'to'?"]),
        ("seeed: 1", ["seeed: no such key; known: title, seed, attribute", "did you mean 'seed'?"]),
        ("training: {imags: 8}", ["training.imags: no such key; known: images", "did you mean 'images'?"]),
        ("sampling: {guidance: {intervall: 1}}", ["sampling.guidance.intervall", "did you mean 'interval'?"]),
        ("preset: demoo", ["preset 'demoo' is unknown; known: paper, demo", "did you mean 'demo'?"]),
        ("plan: {to: 3}\nplan: {to: 4}", ["'plan' is there twice", "line 2"]),
        ("seed: 010", ["010 is a number of base 8 in YAML", "line 1"]),
        ("sampling: {solver: hein}", ["solver 'hein' is unknown; known: dpm_solver_2m, ipndm, ddim"]),
    ],
)
def test_names_that_are_not_known_are_answered_with_known_ones(content: str, words: list[str], medi: Medi) -> None:
    Path("study.yaml").write_text(content)
    refused(medi("run", "study.yaml", "--dry-run"), "study.yaml: ", *words)


def test_a_study_that_medi_does_not_bring(medi: Medi) -> None:
    refused(medi("run", "ami_bro"), "ami_bro: no such study file; medi brings ami_br, ", "did you mean 'ami_br'?")
    refused(medi("run", "folder/quik.yaml"), "folder/quik.yaml: no such study file; medi brings ami_br, ", "'quick'?")
    refused(medi("run", "../studies/quick"), "no such study file")


def test_an_option_of_a_reader_that_is_not_known(medi: Medi) -> None:
    Path("study.yaml").write_text("cohort: {source: ., read: {lable: x, kind: table}}")
    refused(medi("run", "study.yaml", "--dry-run"), "no option 'lable'", "did you mean 'label'?")


def test_a_study_that_cannot_teach_anything_says_so() -> None:
    assert "cannot have learned anything" in embedded_study(quick=True).note
    assert embedded_study().note == ""


@pytest.mark.slow
def test_a_dry_run_tells_guesses_costs_and_unknown_patients_p5(medi: Medi, source: Path) -> None:
    """Defect 12: it printed 0.0 PFLOP, no guess, and no word about a cohort without patients."""
    study = {"attribute": "site", "cohort": {"source": str(source), "size": 8}, "network": {"size": 8, "fold": 2}}
    study |= {"holdout": {"rate": 0.2, "min_patients": 1}, "training": {"images": 64}}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    shown = fine(medi("run", "study.yaml", "--dry-run"))
    for guess in ("label from column 'label'", "patient from column 'patient'", "slide from column 'slide'"):
        assert guess in shown
    assert "attributes guessed: site" in shown
    assert re.findall(r"[1-9][\d.]* [GT]FLOP a model", shown)
    assert " 0.0 " not in shown
    assert shown.count("warning: ") == 1, "that too few patches are reserved"
    unscaled = study | {"cohort": study["cohort"] | {"mode": "crop", "mpp": 0.5}}
    Path("unscaled.yaml").write_text(yaml.safe_dump(unscaled))
    refused(medi("run", "unscaled.yaml", "--dry-run"), "its mpp is unknown (row 0); state it when reading the cohort")
    study["cohort"]["read"] = {"patient": "", "slide": ""}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    shown = fine(medi("run", "study.yaml", "--dry-run"))
    assert "warning: no column is the patient: each of the 48 patches counts as a patient of its own" in shown


@pytest.mark.slow
def test_changed_settings_are_named_old_and_new_p15(medi: Medi) -> None:
    run = tiny_run.write_run(Path("run"))
    record = read_json(run / "run.json")
    write_json(run / "run.json", record | {"format_version": RUN_FORMAT})
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    Path("s.yaml").write_text(run.joinpath("study.yaml").read_text().replace("seed: 0", "seed: 7", 1))
    refused(medi("run", "s.yaml", "--out", "run"), "run: was run with other settings: seed was 0, is 7 now;", "--redo")
    shown = medi("run", "quick", "--out", "run")
    refused(shown, "training.images was ", "is 1600 now", "sampling.steps was 3, is 6 now")
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert kept == before
