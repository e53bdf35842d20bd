"""Every benchmark goes its whole road on tiny inputs and prints one JSON object as its last line: `--quick`."""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

from command_line import Medi, fine
from medi.core.files import write_json
from medi.study.settings import find_study
from medi.training.loop import EARLY, STATE
from shared_data import SHARED, real

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NO_BENCHMARKS = {"common", "picture"}  # what the others share; the README's picture, which has a test of its own
GPU_SPEEDS = ("training_paper_recorded", "sampling_paper_bf16")
FIGURE = {"value", "target", "unit", "n", "spread", "against"}
RUN, RUNS = "RUN", "RUNS"  # stand for the folder of a finished run, and for the folder that holds it as seed0


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def printed(name: str, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The JSON object that `python benchmarks/NAME.py ARGUMENTS` prints last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        script(name).main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


QUICK: dict[str, tuple[object, ...]] = {
    "adapt": ("--out", "out"),
    "amibr": ("--out", "out"),
    "amibr_unseen": ("--out", "out"),
    "app": ("--run", RUN),
    "blind": (RUN, "out"),
    "cohorts": (),
    "confounding": ("--out", "out"),
    "crossed": ("--out", "out"),
    "discover": (),
    "encoders": (),
    "engine": (),
    "features": (),
    "fidelity": ("--run", RUN),
    "gpu": ("--presets", "paper"),
    "guidance": (RUN,),
    "heads": ("--run", RUN),
    "optimizer": (RUN,),
    "intervals": (),
    "latents": ("--out", "out"),
    "packing": (),
    "recommend": ("--with-models", "--out", "out"),
    "sampling": ("--run", RUN),
    "pretraining": ("--out", "out", "--ship", "weights.safetensors"),
    "scale": ("--out", "out"),
    "slides": (),
    "spectrum": ("--source", SHARED / "ami_br" / "metadata.csv"),
    "stress": ("--runs", RUNS, "--out", "out"),
    "study": ("--out", "out"),
    "style": ("--out", "out"),
    "transfer": ("--runs", RUNS, "--out", "out"),
    "trust": ("--out", "out"),
    "utility": ("runs", RUN, "--out", "out"),
    "warm_start": ("--out", "out"),
    "wbc": ("--run", RUN),
    "worlds": ("--contrast", "second", "--out", "out"),
}


def test_every_benchmark_is_run() -> None:
    assert set(QUICK) | NO_BENCHMARKS == {path.stem for path in BENCHMARKS.glob("*.py")}


@pytest.fixture
def runs(linked_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own that holds a finished run as seed0, and the same where `amibr` and `study` look for it."""
    linked_run(tmp_path / "runs" / "seed0")
    model = tmp_path / "runs" / "seed0" / "models" / "medi"
    shutil.copy(model / "model.safetensors", model / EARLY)
    for name in ("quick-0", "seed0"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).symlink_to(tmp_path / "runs" / "seed0")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def case(name: str) -> Any:
    return pytest.param(name, marks=real if name == "spectrum" else ())


@pytest.mark.slow
@pytest.mark.parametrize("name", [case(name) for name in QUICK])
def test_benchmarks_run_small(name: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {RUN: runs / "seed0", RUNS: runs}
    for folder in {"amibr": ["quick-0"], "study": ["seed0"]}.get(name, []):  # finished ones are read again
        write_json(tmp_path / "out" / folder / "cost.json", {"minutes": 1.0, "gib": 1.0})
    arguments = [places.get(str(argument), argument) for argument in QUICK[name]]
    found = printed(name, capsys, *arguments, "--quick")
    assert found["topic"] == name
    assert found["figures"]
    assert all(set(figure) == FIGURE for figure in found["figures"].values())
    if name == "trust":
        compared = script("trust").contents(runs / "seed0")
        assert {"report.html", f"models/medi/{STATE}"} <= set(compared), (
            "read without their times, as after other verbs"
        )
        kept = {key: figure["value"] for key, figure in found["figures"].items() if not key.endswith("_kills")}
        assert kept == dict.fromkeys(kept, 0.0)
    if name == "gpu":
        assert found["figures"]["training_paper_over_plain"]["target"] == ">= 2"
        assert all(found["figures"][f"{speed}_images_per_second"]["value"] > 0 for speed in GPU_SPEEDS)


def test_warm_start_compares_the_recall_of_an_arm_with_the_floor_alone() -> None:
    rows = [("floor", 0.4), ("other", -0.1)]
    table = pd.DataFrame([
        {"metric": "recall_difference", "encoder": "e", "arm": "one", "against": against, "split": "seen",
         "attribute": "", "class": "a", "seed": 0, "value": value} for against, value in rows
    ])  # fmt: skip
    found = dict(script("warm_start").figures(table, 4))
    assert found["e_recall_less_floor_seen_one"]["value"] == 0.4


def test_white_blood_cells_have_a_t_interval_over_runs() -> None:
    """mean 2.5, standard deviation 1.291, quantile 3.1824 of three degrees of freedom."""
    assert script("wbc").over_runs([1.0, 2.0, 3.0, 4.0]) == "; 95 % t interval over runs 0.446 to 4.554"
    assert script("wbc").over_runs([1.0]) == ""


def test_the_p_of_a_mean_over_runs_is_that_of_its_interval() -> None:
    """Half an interval of 1.96 errors is p .05; Holm over both heads, apart from those that training chose."""
    rows = [
        ("mean_recall_difference", head, "medi", "real", value, value - 1.96, value + 1.96)
        for head, values in {"logistic": (1.0, 2.92), "crm": (3.0, 3.0), "chosen": (1.0, 2.92)}.items()
        for value in values
    ]
    rows += [("mean_recall", "logistic", "medi", "", 0.8, 0.7, 0.9)] * 2
    rows.append(("mean_recall_difference", "logistic", "cls", "real", 9.0, 8.0, 10.0))
    table = pd.DataFrame(rows, columns=["metric", "head", "arm", "against", "value", "low", "high"])
    found = script("heads").p_of_means(table, 2)
    assert found[:6].round(4).tolist() == [0.05, 0.05, 0.0054, 0.0054, 0.05, 0.05]
    assert found[6:].isna().all(), "no difference, and one that a run lacks"


def test_the_study_of_white_blood_cells_has_the_first_hold_out_of_its_benchmark() -> None:
    drawn = script("wbc").holdouts()
    assert find_study("wbc").holdout.held == drawn[0]
    assert len({pair for holdout in drawn for pair in holdout}) == 12, "every combination is held out in one at least"
    assert all(len({class_ for class_, _ in holdout}) == 3 for holdout in drawn)


@pytest.mark.slow
def test_the_study_starts_the_demo_and_measures_it(medi: Medi, tmp_path: Path) -> None:
    fine(medi(*script("study").command(tmp_path / "run", 0, True), "--help"))  # which refuses options that are none
    cost = script("study").cost(["--version"])
    assert cost["minutes"] > 0
    assert cost["gib"] > 0
    with pytest.raises(SystemExit, match="medi nothing ended with 2"):
        script("study").cost(["nothing"])


@pytest.mark.slow
@pytest.mark.parametrize("part", ["coverage", "speed"])
def test_the_other_parts_of_utility_run_small(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed("utility", capsys, part, "--out", tmp_path, "--quick")["figures"]


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn(quick_run: tuple[Path, str], tmp_path: Path) -> None:
    script("picture").draw(quick_run[0], tmp_path / "phantom.png")
    assert (tmp_path / "phantom.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU to measure")
def test_gpu_benchmark_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    script("gpu").main()
    assert capsys.readouterr().out == (
        "skipped: this machine has no GPU that torch can use; --quick runs the code on a CPU\n"
    )
