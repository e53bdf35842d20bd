"""Studies on a real Slurm, which `make test-slurm` starts here. Stopped in every way, a study goes on (P4, P12).

The tests stand in the order of one study's life, which they interrupt: run them all.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from command_line import fine, here, refused
from medi.core.files import file_hash, read_json
from medi.core.locks import holder
from medi.core.tensors import header_of
from medi.study.ledger import Ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SLURM_CONF" not in os.environ, reason="no Slurm was started; `make test-slurm` does"),
]
STUDY = {
    "title": "on a cluster",
    "cohort": {"size": 32, "patches": 200},
    "holdout": {"rate": 0.3, "min_patients": 1},
    "network": {"size": 32, "fold": 4, "channels": [16, 16], "layers": 1},
    "training": {"images": 40000, "batch": 16, "save_every": 160},  # longer than Slurm takes to look at the clock
    "plan": {"to": 8, "minimum": 8},
    "sampling": {"steps": 2, "batch": 32},
    "evaluation": {"patches": 10, "patches_per_slide": 5, "distance_images": 8, "arms": ["none"]},
}
MODELS = ("models-cls", "models-medi")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return folder


def submit(home: Path, *options: object) -> str:
    study, run = home / "study.yaml", home / "run"
    return fine(here("run", study, "--out", run, "--on", "slurm", "--cpus", 1, "--shards", 2, *options))


def asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def until(reached: Callable[[], object], seconds: float = 600) -> None:
    limit = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < limit, asked("squeue", "-a")
        time.sleep(0.5)


def queue(home: Path) -> dict[str, str]:
    """State of every job of the run that is in the queue, by its name."""
    rows = (line.split("|") for line in asked("squeue", "-h", "-a", "-r", "-o", "%j|%T").splitlines())
    return {name.removeprefix("medi-"): state for name, state in rows}


def images(home: Path, model: str = "medi") -> int:
    state = home / "run" / "models" / model / "state.safetensors"
    return header_of(state)["images"] if state.exists() else 0


def job_id(home: Path, name: str, run: str = "run") -> str:
    ledger = Ledger.read(home / run)
    assert ledger is not None
    return next(entry.id for entry in ledger.jobs if entry.name == name)


def row(home: Path, job: str) -> str:
    """What `medi status` says of a job."""
    lines = fine(here("status", home / "run")).partition("\njobs")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(rf"│ {job} ", line))
    rows = [lines[start]]
    for line in lines[start + 1 :]:
        if not re.match(r"│ +│", line):
            break
        rows.append(line)
    return " ".join(line.split("│")[3].strip() for line in rows)


def test_what_slurm_refuses_is_one_line_with_the_remedy(home: Path) -> None:
    command = ("run", home / "study.yaml", "--out", home / "run", "--on", "slurm", "--cpus", 1)
    refused(
        here(*command, "--partition", "nope"), "prepare", "nvalid partition", "choose one of first, pair, short, work"
    )
    refused(here(*command, "--gpus", 1), "models-cls", "generic resource", "lower --gpus")
    refused(here(*command, "--mem", "900G"), "prepare", "lower --gpus, --cpus, --mem or --nodes")
    assert queue(home) == {}, "nothing stays submitted"
    assert Ledger.read(home / "run") is None


def test_a_job_that_never_starts_says_why_and_is_cancelled(home: Path) -> None:
    submit(home, "--partition", "short", "--time", 60)
    until(lambda: "--time is longer than the partition allows" in row(home, "prepare"), 60)
    assert row(home, "prepare").startswith("never starts")
    assert "waits for the jobs before it" in row(home, "models-cls")
    refused(
        here("run", home / "study.yaml", "--out", home / "run", "--on", "slurm"),
        *("still in the queue", "--cancel"),
    )
    assert "cancelled: " in fine(here("status", home / "run", "--cancel"))
    until(lambda: queue(home) == {}, 60)


def test_a_command_killed_for_good_goes_on_when_it_is_submitted_again(home: Path) -> None:
    shown = submit(home, "--time", 30)
    assert "samples-medi: submitted as" in shown
    assert "2 tasks" in shown
    until(lambda: images(home) > 0)
    folder = home / "run" / "models" / "medi"
    found = holder(folder)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    until(lambda: "models-medi" not in queue(home), 60)
    until(lambda: "samples-medi" not in queue(home), 60)
    assert "failed" in row(home, "models-medi") or "stopped" in row(home, "models-medi")
    fine(here("status", home / "run", "--cancel"))
    until(lambda: queue(home) == {}, 60)
    assert (folder / ".medi-lock").exists(), "it had no time to tidy up"


def test_a_cancelled_job_has_saved_and_is_not_put_back(home: Path) -> None:
    before = images(home)
    submit(home, "--time", 30)
    until(lambda: images(home) > before, 600)
    asked("scancel", job_id(home, "models-medi"))
    until(lambda: "models-medi" not in queue(home), 60)
    assert row(home, "models-medi").startswith("stopped before it was done: stopped; last saved at ")
    fine(here("status", home / "run", "--cancel"))
    until(lambda: queue(home) == {}, 60)
    time.sleep(10)
    assert queue(home) == {}, "nothing was put back"


def test_jobs_cut_off_by_the_clock_or_by_others_are_put_back_and_finish(home: Path) -> None:
    before = images(home, "cls")
    submit(home, "--time", 30)
    until(lambda: images(home, "cls") > before)
    cls = job_id(home, "models-cls")
    asked("scontrol", "update", f"JobId={cls}", "TimeLimit=2")  # in less than the two minutes of warning
    until(lambda: "Restarts=0" not in asked("scontrol", "show", "job", cls), 120)
    saved = images(home, "cls")
    assert saved > before, "what was reached is saved"
    asked("scontrol", "update", f"JobId={cls}", "TimeLimit=30")
    until(lambda: images(home, "cls") > saved)
    asked("sbatch", "-p", "first", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    until(lambda: queue(home).get("models-cls") == "PENDING", 120)
    until(lambda: queue(home) == {}, 1800)
    ended = asked("scontrol", "show", "job", job_id(home, "measure"))
    assert "JobState=COMPLETED" in ended, fine(here("status", home / "run"))
    assert row(home, "samples-medi") == "2 done"
    shown = fine(here("status", home / "run"))
    assert "finished" in shown


def test_the_results_are_those_of_one_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")  # one core for each of the two models
    fine(here("run", home / "study.yaml", "--out", home / "plain"))
    names = [f"models/{model}/model.safetensors" for model in ("cls", "medi")]
    names += [f"samples/{model}/pixels.npy" for model in ("cls", "medi")]
    names += [f"tables/{table}.parquet" for table in ("fidelity", "control", "utility")]
    names += ["embeddings/medi.parquet", "embeddings/cohort.parquet"]
    apart = [name for name in names if file_hash(home / "run" / name) != file_hash(home / "plain" / name)]
    assert apart == []
    jobs, plain = (read_json(home / name / "results.json") for name in ("run", "plain"))
    assert jobs.pop("machine")["cores"] == 1
    assert plain.pop("machine")["cores"] == 2
    assert jobs == plain


def test_a_training_works_on_two_nodes_and_equals_that_of_one_p4(home: Path) -> None:
    """Up to the order of summation: torchrun on each node, a process each, which meet on the first one."""
    if asked("sinfo", "-h", "-p", "pair", "-t", "idle", "-o", "%D").strip() != "2":
        pytest.skip("this Slurm lets no second slurmd run on one machine")
    small = {**STUDY, "training": {"images": 160, "batch": 16, "save_every": 160, "precision": "fp32"}}
    (home / "small.yaml").write_text(yaml.safe_dump(small))
    command = ("run", home / "small.yaml", "--on", "slurm", "--cpus", 1, "--shards", 1, "--partition", "pair")
    refused(here(*command, "--nodes", 3, "--out", home / "three"), "--nodes 3: the partition pair has 2")
    assert not (home / "three").exists()
    for name, nodes in (("one", 1), ("two", 2)):
        fine(here(*command, "--nodes", nodes, "--out", home / name))
    models = [home / name / "models" / "medi" / "model.safetensors" for name in ("one", "two")]
    until(lambda: all(path.exists() for path in models))
    one, two = (load_file(path) for path in models)
    assert max(float((two[name] - value).abs().max()) for name, value in one.items()) < 1e-4
    assert len(list((home / "two" / "jobs").glob(f"{job_id(home, 'models-medi', 'two')}_*_log.out"))) == 2
    for name in ("one", "two"):
        fine(here("status", home / name, "--cancel"))
