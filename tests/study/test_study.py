"""The whole road through the CLI with a tiny budget: `medi demo --quick`, run again, killed, given wrong input."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.cohort.table import Cohort
from medi.core.files import file_hash, read_json, read_table
from medi.report import run as report_run
from medi.report.recommended import recommended
from medi.study.results import gap_closed
from medi.study.stages import altered, read_records


@pytest.fixture
def quick(quick_run: tuple[Path, str]) -> tuple[Path, str]:
    """The folder of a finished quick run and what it printed."""
    return quick_run


@pytest.mark.slow
def test_results_hold_what_is_promised(quick: tuple[Path, str]) -> None:
    results = read_json(quick[0] / "results.json")
    assert "the models cannot have learned anything" in results["note"]
    for split in ("seen", "unseen"):
        assert {"real", "cls", "medi", "oracle", "combination_weights"} <= set(results["balanced_accuracy"][split])
        assert all(0 <= value <= 1 for value in results["balanced_accuracy"][split].values())
        assert set(results["frechet"][split]) == {"floor", "cls", "medi"}
        assert results["frechet"][split]["floor"] < results["frechet"][split]["medi"]
    accuracy = results["balanced_accuracy"]["unseen"]
    assert results["gap_closed"] == pytest.approx(
        (accuracy["medi"] - accuracy["real"]) / (accuracy["oracle"] - accuracy["real"])
    )
    assert results["seed"] == 0
    assert {"medi", "torch", "python"} <= set(results["versions"])
    stages = {"cohort", "audit", "holdout", "references", "models", "plan", "samples", "embeddings"}
    tables = {f"tables/{name}.parquet" for name in ("fidelity", "control", "memorisation", "utility")}
    assert "seconds" not in results, "times are kept in run.json alone"
    assert stages | tables <= set(report_run.Results.read(quick[0] / "results.json").seconds)
    assert set(results["control"]["unseen"]) == {"real", "cls", "medi"}
    assert set(results["copy_rate"]) == {"real", "cls", "medi"}


@pytest.mark.slow
def test_samples_say_under_which_hold_out_their_model_was_trained_p5(quick: tuple[Path, str]) -> None:
    certificate = read_json(quick[0] / "holdout" / "certificate.json")
    for model in ("cls", "medi"):
        said = read_json(quick[0] / "samples" / model / "cohort.json")["info"]["holdout"]
        assert said == {"labels": certificate["labels"], "train": certificate["ids"]["train"]}


@pytest.mark.slow
def test_terminal_shows_every_stage_the_summary_and_the_report(quick: tuple[Path, str]) -> None:
    out, printed = quick
    for stage in read_json(out / "run.json")["stages"]:
        assert f"{stage}: " in printed
    assert "mean recall over all combinations" in printed
    assert "chance" in printed
    assert f"report: {out / 'report.html'}" in printed
    assert (out / "report.html").stat().st_size > 100_000
    assert printed.count("with 1,600 training images") == 1, "defect: said before and after the figures"
    assert " nan" not in printed, 'defect: "copies: real nan"'


@pytest.mark.slow
def test_held_out_combinations_have_no_training_patch(quick: tuple[Path, str]) -> None:
    """P5: no patch, patient or slide of a held-out combination in training; tests share no patient with it."""
    out = quick[0]
    certificate = read_json(out / "holdout" / "certificate.json")
    split = read_table(out / "holdout" / "split.parquet")
    table = Cohort.load(out / "cohort").table.merge(split[["sample_id", "split"]], on="sample_id", suffixes=("_", ""))
    train = table[table["split"] == "train"]
    held = {tuple(cell) for cell in certificate["held_out"]}
    assert len(held) == 9  # 30 % of the 29 combinations with patches
    assert not held & set(zip(train["class"], train["site"]))
    assert set(train["class"]) == set(table["class"])
    assert set(train["site"]) == set(table["site"])
    for name in ("reference", "floor", "oracle"):
        assert not set(Cohort.load(out / "references" / name).table["patient"]) & set(table["patient"])


@pytest.mark.slow
def test_both_models_are_asked_for_the_same_images(quick: tuple[Path, str]) -> None:
    out = quick[0]
    cls, medi_ = (Cohort.load(out / "samples" / model) for model in ("cls", "medi"))
    columns = ["sample_id", "class", "site", "group", "noise_id", "fill"]
    pd.testing.assert_frame_equal(cls.table[columns], medi_.table[columns])
    assert cls.info["model"] != medi_.info["model"]
    assert [a.name for a in cls.schema.conditions] == ["class"]
    assert [a.name for a in medi_.schema.conditions] == ["class", "site", "group"]
    counts = medi_.table.groupby(["class", "site"]).size()
    assert len(counts) == 32
    assert counts.min() >= 20


@pytest.mark.slow
def test_balanced_set_fills_every_combination_alike(quick: tuple[Path, str]) -> None:
    """Real plus filling synthetic images reach the plan's count everywhere; the oracle has as many."""
    plan = read_table(quick[0] / "plan" / "plan.parquet")
    assert ((plan["real"] + plan["fill"]) >= 20).all()
    assert (plan.loc[plan["real"] < 20, "real"] + plan.loc[plan["real"] < 20, "fill"] == 20).all()
    utility = read_table(quick[0] / "tables" / "utility.parquet")
    sizes = utility[(utility["metric"] == "balanced_accuracy") & (utility["scope"] == "all")].groupby("arm")["n_train"]
    assert sizes.max()["oracle"] == sizes.max()["medi"] == sizes.max()["cls"] > sizes.max()["real"]


@pytest.mark.slow
def test_the_grid_of_pictures_shows_as_many_slides_as_there_are(quick: tuple[Path, str]) -> None:
    """20 reference patches a combination, 5 a slide: its three real patches are of three slides."""
    shown = Cohort.load(quick[0] / "sheet").table
    real = shown[shown["source"] == "real"].groupby(["class", "site"])["slide"]
    assert (real.size() == 3).all()
    assert (real.nunique() == 3).all()


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_running_again_skips_everything_and_gives_the_same_numbers(
    linked_run: Callable[..., Path], medi: Medi, tmp_path: Path
) -> None:
    out = linked_run(tmp_path / "again")
    before, models = (out / "results.json").read_text(), (out / "run.json").read_text()
    assert fine(medi("demo", "--quick", "--out", out)).count("(done before)") == len(json.loads(models)["stages"])
    assert (out / "results.json").read_text() == before


@pytest.mark.slow
def test_the_report_opens_with_the_remedy_that_training_chose(quick: tuple[Path, str]) -> None:
    table = read_table(quick[0] / "tables" / "recommend.parquet")
    remedies = {("real", "logistic"), ("real", "two_way"), ("every_set", "soft_vote")}
    assert set(zip(table["set"], table["head"])) == remedies
    assert table["true"].notna().all(), "the true hold-out is opened after the choice"
    page = (quick[0] / "report.html").read_text()
    assert (
        0
        < page.index(recommended(table).split(":")[0])
        < page.index("Regret on the true hold-out")
        < page.index("No gain is claimed")
    )


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_report_is_written_again_from_the_folder_alone(
    linked_run: Callable[..., Path], medi: Medi, tmp_path: Path
) -> None:
    linked_run(tmp_path / "moved", "models", "samples", "embeddings")
    (tmp_path / "moved" / "report.html").unlink()
    fine(medi("report", tmp_path / "moved"))
    assert (tmp_path / "moved" / "report.html").exists()


@pytest.mark.slow
def test_other_settings_in_a_used_folder_are_refused(quick: tuple[Path, str], medi: Medi) -> None:
    before = (quick[0] / "results.json").read_text()
    shown = medi("demo", "--quick", "--seed", "1", "--out", quick[0])
    refused(shown, "was run with other settings", "choose another --out, or --redo")
    assert (quick[0] / "results.json").read_text() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead: 1", "sead: no such key"),
        ("training: {imagez: 3}", "training.imagez: no such key"),
        ("seed: [", "not readable as YAML"),
        ("seed: x", "seed: Input should be a valid integer"),
        ("network: {size: 30}", "image size 30 is no multiple of 8"),
        ("attribute: hospital", "'hospital' is no attribute"),
        ("evaluation: {encoders: [mine]}", "encoder 'mine' is unknown; known: colour-texture"),
        ("cohort: {size: 48}", "cohort.size: the phantom has 32, 64, 128, 256 px, not 48"),
        ("cohort: {source: nowhere.csv}", "nowhere.csv does not exist; it is relative to the study file"),
        ("cohort: {read: {label: x}}", "there is no cohort.source to read"),
        (
            "sampling: {guidance: {autoguidance: 0.5}}",
            "set training.early_average to the images",
        ),
        ("cohort: {size: 64}", "network.size is 32, cohort.size 64: make them equal"),
    ],
)
def test_wrong_study_files_are_one_clear_line(medi: Medi, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    code, shown = medi("run", tmp_path / "study.yaml", "--out", tmp_path / "run")
    assert code == 2
    assert message in shown
    assert len(shown.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_wrong_options_and_folders_are_refused(medi: Medi, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    cases = [
        (["demo", "--quik"], "No such option"),
        (["demo", "--seed", "-1"], "--seed"),
        (["dmo"], "No such command"),
        (["run", tmp_path / "none.yaml"], "no such study file"),
        (["demo", "--out", tmp_path / "file"], "is a file; choose a folder"),
        (["demo", "--out", tmp_path], "is not empty and holds no run of medi"),
        (["report", tmp_path], "no results of a study here"),
    ]
    for arguments, message in cases:
        code, shown = medi(*arguments)
        assert code == 2, arguments
        assert message in shown, shown
        assert "Traceback" not in shown
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_help_shows_an_example_for_every_verb(medi: Medi) -> None:
    assert medi("--help")[0] == 0
    for verb in ("demo", "run", "report"):
        assert f"Example: medi {verb}" in medi(verb, "--help")[1]


def test_gap_is_undefined_where_the_oracle_gains_nothing() -> None:
    """P7."""
    assert gap_closed({"real": 0.5, "medi": 0.7, "oracle": 0.9}) == pytest.approx(0.5)
    assert gap_closed({"real": 0.5, "medi": 0.7, "oracle": 0.5}) is None
    assert gap_closed({"real": 0.5, "medi": None, "oracle": 0.9}) is None
    assert np.isclose(gap_closed({"real": 0.6, "medi": 0.5, "oracle": 0.7}), -1.0)


@pytest.mark.slow
def test_damage_of_any_file_of_a_run_is_noticed(linked_run: Callable[..., Path], tmp_path: Path) -> None:
    """P15: every file that a stage wrote, deleted, cut short, or with a bit flipped."""
    copy = linked_run(tmp_path / "run")
    records = read_records(copy / "run.json")
    assert sum(len(record.files) for record in records.values()) > 60
    known = {file: name for name, record in records.items() for file in record.files}
    passing = {"log.txt", "run.json", ".run.json"}  # the last two stand for each other
    anew = {"results.json", "report.html", "tables/training.parquet", "sheet", "sheets"}  # written by every run
    for path in filter(Path.is_file, copy.rglob("*")):
        file = path.relative_to(copy)
        assert f"{file}" in known or path.name in passing or {f"{file}", file.parts[0]} & anew
    for file, name in known.items():
        path, files = copy / file, records[name].files
        whole = path.rename(tmp_path / "whole")
        is_spare = path.name == "state.safetensors"  # `medi clean` deletes it
        assert altered(copy, [name], files) == ({} if is_spare else {file: "missing"})
        data = whole.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 4]))
        assert altered(copy, [name], files) == {file: "damaged"}
        os.truncate(path, len(data) // 2)
        assert altered(copy, [name], files) == {file: "damaged"}
        whole.rename(path)
    assert not any(altered(copy, [name], record.files) for name, record in records.items())


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_the_same_command_repairs_a_damaged_run(
    quick: tuple[Path, str], linked_run: Callable[..., Path], tmp_path: Path, medi: Medi
) -> None:
    """P12, P15: one file of a few stages each, all at once; every result is then as it was."""
    copy = linked_run(tmp_path / "run")
    before = read_json(copy / "results.json")
    damaged = ["study.yaml", "holdout/certificate.json", "plan/rows.parquet", "samples/medi/pixels.npy"]
    damaged += ["embeddings/medi.parquet", "tables/utility.parquet", "tables/suspects.parquet"]
    damaged += ["models/cls/model.safetensors"]
    named = list(damaged)
    damaged += ["models/medi/log.jsonl", "suspects/cohort.json", "run.json"]
    kept = [copy / "samples" / "cls" / "pixels.npy", copy / "models" / "medi" / "model.safetensors"]
    untouched = [path.stat().st_mtime_ns for path in kept]
    for name in damaged:
        data = (copy / name).read_bytes()
        (copy / name).unlink()  # the file itself may be a link
        (copy / name).write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    for name in ("results.json", "report.html", "audit/audit.json"):
        (copy / name).unlink()
    (copy / "results.json").write_text("{")
    shown = fine(medi("demo", "--quick", "--out", copy))
    assert written(copy) == written(quick[0])
    for name in ["audit/audit.json is missing", *(f"{name} is damaged" for name in named)]:
        assert f": {name}; made again" in shown or f": {name} and 1 more; made again" in shown
    assert [path.stat().st_mtime_ns for path in kept] == untouched, "the other model, and its samples, were not harmed"
    assert read_json(copy / "results.json") == before


def written(folder: Path) -> dict[str, str]:
    """Every file of a run, with a hash, but for those that hold recorded times."""
    timed = {"run.json", ".run.json", "log.txt", "speed.jsonl", "state.safetensors", "report.html"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in timed]
    return {f"{path.relative_to(folder)}": file_hash(path) for path in files}
