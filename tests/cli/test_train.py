"""medi train as a user runs it, on a packed phantom cohort with a split."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.holdout import design
from medi.cohort.rule import Rule
from medi.cohort.table import Cohort
from medi.models.checkpoint import load_model
from medi.training.log import read_log
from medi.training.trainer import Trainer


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    cohort = phantom.cohort(0, 32, 200)
    found = design(cohort.table, cohort.schema, Rule(min_patients=1, validation=0.2), 0)
    table = found.apply(cohort.table)
    last = table["patient"] == table["patient"][table["split"] == "train"].iloc[-1]
    table.loc[last, "split"] = "validation"
    Cohort(table, cohort.schema, cohort.pixels, cohort.info).save(tmp_path / "packed")
    return Path("packed")


@pytest.mark.slow
def test_both_models_from_one_cohort(medi: Medi, packed: Path) -> None:
    """CLS is the same network with the class alone; a finished model is not trained again, a changed one is refused."""
    command = ["train", packed, "--preset", "demo", "--images", "32"]
    for name, more, conditions in (("medi", [], 3), ("cls", ["--cls"], 1)):
        assert "GFLOP an image" in fine(medi(*command, *more, "--out", name))
        denoiser, checkpoint = load_model(Path(name) / "model.safetensors")
        assert len(denoiser.schema.conditions) == conditions
        assert checkpoint.images == 32
        row = json.loads((Path(name) / "log.jsonl").read_text().splitlines()[-1])
        assert row["validation_loss"] > 0
        use = read_log(Path(name))[-1].utilisation
        assert use is None or 0 < use < 1
        fine(medi(*command, *more, "--out", name))
    refused(medi(*command, "--out", "cls"), "cls/model.safetensors: was trained with another conditions.site")


@pytest.mark.slow
def test_dropout_by_name_stays_with_the_model(medi: Medi, packed: Path) -> None:
    """What a model never dropped it cannot be guided by."""
    command = ("train", packed, "--preset", "demo", "--images", "32")
    fine(medi(*command, "--dropout", "class=0.1", "--dropout", "site=0.2", "--out", "m"))
    assert load_model(Path("m/model.safetensors"))[1].dropout == {"class": 0.1, "site": 0.2}
    Path("plan.csv").write_text(f"class,site,group,n\n{phantom.CLASSES[0]},{phantom.SITES[0]},{phantom.GROUPS[0]},1\n")
    sample = ("sample", "m", "plan.csv", "--steps", 2, "--batch", 2, "--out", "s")
    assert "sampled: 1 images" in fine(medi(*sample, "--guidance", "site=1"))
    refused(medi(*sample, "--guidance", "group=1"), "trained without conditioning dropout of group")
    fine(medi(*command, "--dropout", "0.3", "--out", "all"))
    assert load_model(Path("all/model.safetensors"))[1].dropout == 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_says_what_is_saved_and_the_same_command_continues_p12(
    medi: Medi, packed: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """Before, half a minute of training left nothing and said that it would go on."""
    step, images = Trainer.step, list[int]()

    def stopping(trainer: Trainer) -> object:
        loss = step(trainer)
        images.append(trainer.images)
        if images == [16, 32, 48]:
            os.kill(os.getpid(), number)
        return loss

    monkeypatch.setattr(Trainer, "step", stopping)
    command = ("train", packed, "--preset", "demo", "--images", "96", "--batch", "16", "--out", "m")
    found, text = medi(*command)
    assert found == code
    last = text.splitlines()[-1]
    assert last == "medi: stopped; last saved at 48 of 96 images (50 %); the same command continues"
    fine(medi(*command))
    assert images == [16, 32, 48, 64, 80, 96]


@pytest.mark.slow
def test_bad_input_is_one_line(medi: Medi, packed: Path) -> None:
    cohort = Cohort.load(packed)
    Cohort(cohort.table, cohort.schema, None, cohort.info).save(Path("bare"))
    Cohort(cohort.table.assign(split=""), cohort.schema, cohort.pixels, cohort.info).save(Path("whole"))
    for arguments, words in (
        (["nowhere"], "medi pack SOURCE --size 32"),
        (["bare"], "not packed"),
        (["whole"], "`medi holdout whole --out split`"),
        ([packed, "--preset", "large"], "known: paper, demo"),
        ([packed, "--preset", "patch64"], "the network wants 64"),
        ([packed, "--images", "4"], "at least one batch"),
        ([packed, "--batch", "0"], "--batch"),
        ([packed, "--dropout", "stain=0.1"], "'stain' is no attribute; known: class, site"),
        ([packed, "--dropout", "0.1", "--dropout", "site=0.2"], "one rate for all conditions, or each with its name"),
        ([packed, "--dropout", "often"], "--dropout 'often' is not a number; expected 0.1 or site=0.1"),
        ([packed, "--dropout", "1.5"], "dropout is a share of draws, 0 to 1"),
    ):
        refused(medi("train", *arguments, *([] if "--preset" in arguments else ["--preset", "demo"])), words)
        assert not Path("medi-model/model.safetensors").exists()


@pytest.mark.slow
def test_a_dry_run_tells_guesses_costs_and_unknown_patients_p5(medi: Medi, source: Path) -> None:
    """Defect 12: it printed 0.0 PFLOP, no guess, and no word about a cohort without patients."""
    for out, unknown in (("known", []), ("unknown", ["--patient", "", "--slide", ""])):
        fine(medi("holdout", source, *unknown, "--validation", "0", "--out", "h" + out))
        fine(medi("pack", "h" + out, "--size", 32, "--workers", 1, "--out", out))
    shown = fine(medi("train", "known", "--preset", "demo", "--images", 32, "--dry-run"))
    assert "patient from column 'patient'" in shown
    assert "attributes guessed: site" in shown
    assert re.search(r"1\.2 M parameters, 0\.\d+ GFLOP an image, [1-9][\d.]* GFLOP in all", shown)
    assert "warning" not in shown
    warning = "warning: no column is the patient"
    assert warning in fine(medi("train", "unknown", "--preset", "demo", "--dry-run"))
