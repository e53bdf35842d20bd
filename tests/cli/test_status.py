"""The verbs status and clean, and the log of a run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tiny_run
from command_line import Medi, fine, refused
from medi.core.locks import locked
from medi.study.upkeep import TYPED, waste_of

HOLD = "import sys; from pathlib import Path; from medi.core.locks import locked\nwith locked(Path(sys.argv[1])):\n"
HOLD += " print('held', flush=True); sys.stdin.read() or __import__('time').sleep(60)"
KEPT = ("study.yaml", "run.json", "results.json", "cohort", "audit", "holdout", "models/medi/model.safetensors")


@pytest.fixture
def run() -> Path:
    return tiny_run.write_run(Path("a run"))


def state(shown: str, stage: str) -> str:
    (line,) = [line for line in shown.splitlines() if re.search(rf"│ {re.escape(stage)} ", line)]
    return line.split("│")[2].strip()


@pytest.mark.slow
def test_every_stage_has_its_state_and_size(medi: Medi, run: Path) -> None:
    shutil.rmtree(run / "samples")
    (run / ".app-7").mkdir()
    shown = fine(medi("status", run))
    assert state(shown, "cohort") == "done"
    assert state(shown, "samples") == "output missing"
    assert state(shown, "tables/utility.parquet") == "to do"
    assert "nobody works in this folder" in shown
    assert re.search(r"a run: [\d.]+ [kM]B", shown)
    with locked(run):
        shown = fine(medi("status", run))
        assert f"in work: process {os.getpid()} on" in shown
        refused(medi("clean", run, "--yes"), f"process {os.getpid()}")
    refused(medi("status", "nowhere"), "holds no run of medi")


@pytest.mark.slow
def test_a_second_run_in_a_folder_is_refused_p15(medi: Medi, source: Path) -> None:
    """The process that works there is named; nothing is written."""
    study = {"cohort": {"source": str(source), "size": 8}, "network": {"size": 8, "fold": 2}}
    Path("s.yaml").write_text(yaml.safe_dump(study))
    Path("run").mkdir()
    sleeper = subprocess.Popen([sys.executable, "-c", HOLD, "run"], stdout=subprocess.PIPE, text=True)
    try:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "held\n"
        refused(medi("run", "s.yaml", "--out", "run"), f"run: is in use by process {sleeper.pid}")
        assert [path.name for path in Path("run").iterdir()] == [".medi-lock"]
    finally:
        sleeper.kill()
        sleeper.wait()
    (source.parent / "0.png").write_bytes(b"no image")
    refused(medi("run", "s.yaml", "--out", "run"), "0.png")
    assert "stopped" in state(fine(medi("status", "run")), "cohort"), "the lock of a dead process is taken over"


@pytest.mark.slow
def test_results_are_never_deleted_p15(medi: Medi, run: Path) -> None:
    (run / "models/medi/state.safetensors").write_bytes(b"x" * 2000)
    (run / ".app-7").mkdir()
    (run / "tables").mkdir()
    (run / "tables/.utility.parquet.9.tmp").touch()
    shown = fine(medi("clean", run))
    assert "nothing was deleted; --yes deletes these" in shown, "without a terminal nobody can agree"
    assert (run / "samples").exists()
    shown = fine(medi("clean", run, "--yes"))
    assert shown.splitlines()[-1] == "next: medi status 'a run'"
    assert "training: 2.0 kB" in shown
    gone = ("samples", "models/medi/state.safetensors", ".app-7", "tables/.utility.parquet.9.tmp")
    assert not [name for name in gone if (run / name).exists()]
    assert not [name for name in KEPT if not (run / name).exists()]
    assert waste_of(run) == []
    assert "there is nothing to delete" in fine(medi("clean", run))


@pytest.mark.slow
def test_all_that_a_run_shows_is_kept_with_its_time(medi: Medi, source: Path) -> None:
    """Also what stopped it, and the command that goes on."""
    study = {
        "cohort": {"source": str(source), "size": 8},
        "network": {"size": 8, "fold": 2},
        "training": {"images": 64},
    }
    Path("s.yaml").write_text(yaml.safe_dump(study | {"holdout": {"rate": 0.01, "min_patients": 99}}))
    broken = source.parent / "0.png"
    broken.write_bytes(b"no image")
    command = ("run", "s.yaml", "--out", "my run")
    refused(medi(*command), "0.png")
    lines = Path("my run/log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    assert lines[0].endswith(f"{TYPED}medi run s.yaml --out 'my run'")
    assert "study.yaml: " in lines[1]
    assert "medi: " in lines[-1]
    assert "0.png" in lines[-1]
    assert fine(medi("status", "my run")).splitlines()[-1] == "next: medi run s.yaml --out 'my run'"
    refused(medi(*command), "0.png")
    assert Path("my run/log.txt").read_text().splitlines()[: len(lines)] == lines, "it is appended to"
    refused(medi("audit", "nowhere.csv"), "nowhere.csv")
    assert "nowhere.csv" not in Path("my run/log.txt").read_text(), "of another command"
    Path("full").mkdir()
    Path("full/letter.txt").touch()
    refused(medi("run", "s.yaml", "--out", "full"), "holds no run of medi")
    assert [path.name for path in Path("full").iterdir()] == ["letter.txt"]
