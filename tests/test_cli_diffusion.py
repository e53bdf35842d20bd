"""medi train as a user runs it, on a packed phantom cohort with a split."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medi import cli
from medi.cohort import phantom
from medi.cohort.holdout import Rule, design
from medi.cohort.table import Cohort
from medi.diffusion.checkpoint import load_model

Medi = Callable[..., tuple[int, str]]


@pytest.fixture
def medi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Medi:
    """medi(*arguments): exit code and everything printed, run in a folder of its own."""

    def _run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medi", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out + shown.err

    monkeypatch.chdir(tmp_path)
    return _run


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    cohort = phantom.cohort(0, 32, 200)
    found = design(cohort.table, cohort.schema, Rule(min_patients=1, validation=0.2), 0)
    Cohort(found.apply(cohort.table), cohort.schema, cohort.pixels, cohort.info).save(tmp_path / "packed")
    return Path("packed")


def test_both_models_from_one_cohort(medi: Medi, packed: Path) -> None:
    """CLS is the same network with the class alone; a finished model is not trained again, a changed one is refused."""
    command = ["train", packed, "--preset", "demo", "--images", "32"]
    for name, more, conditions in (("medi", [], 3), ("cls", ["--cls"], 1)):
        code, shown = medi(*command, *more, "--out", name)
        assert code == 0, shown
        assert "GFLOP an image" in shown
        denoiser, config = load_model(Path(name) / "model.safetensors")
        assert len(denoiser.schema.conditions) == conditions
        assert config["images"] == 32
        row = json.loads((Path(name) / "log.jsonl").read_text().splitlines()[-1])
        assert row["validation_loss"] > 0
        assert row["utilisation"] is None or 0 < row["utilisation"] < 1


def test_bad_input_is_one_line(medi: Medi, packed: Path) -> None:
    cohort = Cohort.load(packed)
    Cohort(cohort.table, cohort.schema, None, cohort.info).save(Path("bare"))
    Cohort(cohort.table.assign(split=""), cohort.schema, cohort.pixels, cohort.info).save(Path("whole"))
    for arguments, words in (
        (["nowhere"], "medi pack SOURCE --size 32"),
        (["bare"], "not packed"),
        (["whole"], "run `medi holdout` first"),
        ([packed, "--preset", "large"], "known: paper, demo"),
        ([packed, "--preset", "patch64"], "the network wants 64"),
        ([packed, "--images", "4"], "at least one batch"),
        ([packed, "--batch", "0"], "--batch"),
    ):
        code, shown = medi("train", *arguments, *([] if "--preset" in arguments else ["--preset", "demo"]))
        assert code == 2, shown
        line = shown.strip().splitlines()[-1]
        assert line.startswith("medi: ")
        assert words in line
        assert not Path("model/model.safetensors").exists()
