"""Studies as jobs: the plan, who gets which GPU, and the same results on several processes as on one (P3, P4, P12)."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from torch.distributed.launcher.api import LaunchConfig
from torch.distributed.run import config_from_args, parse_args

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import file_hash, read_json
from medi.core.locks import NAME, Holder, locked
from medi.core.progress import Silent
from medi.core.threads import cores
from medi.study import slurm
from medi.study.context import Study
from medi.study.jobs import Job, Machine, Means, Needs, Task, left, meeting, plan, startable, threads
from medi.study.ledger import LOCAL, SLURM, Entry, Ledger, last_words, note, outcome
from medi.study.local import _failed, environment, launch, run_here
from medi.study.parts import MEASURE, PREPARE, done_parts, prepare, prepared
from medi.study.settings import StudySettings, find_study, read_study
from medi.study.slurm import Place, Queued, explained, parameters, refusal
from medi.study.stages import Run
from medi.study.study import road
from real_processes import begin
from real_processes import medi as medi_process
from tiny_latents import write_autoencoder

COMMAND = ("run", "quick", "--out", "r")
NODE = Machine(("4", "5", "6", "7"), cores=16, workers=4)


def asked(**evaluation: object) -> StudySettings:
    return StudySettings.model_validate({"evaluation": evaluation})


def test_a_study_is_jobs_with_what_each_waits_for() -> None:
    jobs = {job.name: job for job in plan(find_study("quick"), COMMAND, Means(shards=8, gpus=2, cpus=6, memory="9G"))}
    assert list(jobs) == [
        *("prepare", "models-cls", "models-medi", "samples-cls", "samples-medi", "embeddings", "measure")
    ]
    assert jobs["models-medi"].after == ("prepare",)
    assert jobs["samples-medi"].after == ("models-cls", "models-medi"), "nothing that these wait for themselves"
    assert jobs["measure"].after == ("embeddings",)
    assert {name: job.shards for name, job in jobs.items() if job.shards > 1} == dict.fromkeys(
        ("samples-cls", "samples-medi", "embeddings"), 8
    )
    assert {name: job.needs.gpus for name, job in jobs.items()} == dict(zip(jobs, (0, 2, 2, 1, 1, 1, 0)))
    assert jobs["models-cls"].needs == Needs(6, 2, "9G")
    assert jobs["samples-cls"].tasks[3].command("py") == [
        *("py", "-m", "medi.cli", *COMMAND, "--part", "samples/cls", "--device", "cuda", "--shard", "3/8")
    ]
    together = jobs["models-cls"].tasks[0].command("py")
    assert together[:6] == ["py", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def test_a_training_on_several_nodes_is_torchrun_on_each() -> None:
    """Read as torchrun reads it: the processes of all nodes meet on the first one."""
    jobs = {job.name: job for job in plan(find_study("quick"), COMMAND, Means(gpus=4, nodes=2))}
    assert {name: job.needs.nodes for name, job in jobs.items() if job.needs.nodes > 1} == dict.fromkeys(
        ("models-cls", "models-medi"), 2
    )
    command = jobs["models-medi"].tasks[0].command("py")
    for is_first in (True, False):
        config, _, words = of_torchrun(meeting(command, "node7", 20_012, is_first))
        assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.max_restarts) == (2, 2, 4, 0)
        assert (config.rdzv_backend, config.rdzv_endpoint) == ("c10d", "node7:20012")
        assert config.rdzv_configs["is_host"] == str(int(is_first))
        assert words[-4:] == ["--part", "models/medi", "--device", "cuda"]
    on_cpu = Task(Job("models-cls", COMMAND, needs=Needs(nodes=2))).command("py")
    assert of_torchrun(meeting(on_cpu, "node7", 1, True))[0].nproc_per_node == 1


def of_torchrun(command: list[str]) -> tuple[LaunchConfig, object, list[str]]:
    assert command[:3] == ["py", "-m", "torch.distributed.run"]
    return config_from_args(parse_args(command[3:]))


def test_a_network_is_cut_among_several_processes_alone() -> None:
    wanted = StudySettings.model_validate({"training": {"shard_model": True}})
    for means in (Means(), Means(gpus=1)):
        with pytest.raises(MediError, match=r"training\.shard_model cuts a network among several processes"):
            plan(wanted, COMMAND, means)
    for means in (Means(gpus=2), Means(nodes=2), Means(gpus=1, nodes=2)):
        assert plan(wanted, COMMAND, means)


def test_more_nodes_than_a_partition_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch takes such jobs, and they wait for ever. A partition has a line for each state of its nodes."""
    monkeypatch.setattr(slurm, "_asked", lambda *command: "short*|1\nlong|2\nlong|1\nlarge|8\n")
    with pytest.raises(MediError, match=r"--nodes 4: the partition short has 1; .* another --partition \(large\)"):
        slurm.check_nodes(4, Place())
    with pytest.raises(MediError, match="--nodes 4: the partition long has 3; lower --nodes"):
        slurm.check_nodes(4, Place("long"))
    slurm.check_nodes(3, Place("long"))


@pytest.mark.parametrize("number", [0, 1])
def test_each_node_executes_its_part_and_the_first_one_speaks(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (("PROCID", number), ("JOB_ID", 30_007), ("JOB_NODELIST", "node[7-8]")):
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    started = list[list[str]]()
    monkeypatch.setattr(slurm, "_asked", lambda *command: "node7\nnode8\n" if command[1] == "show" else "")
    monkeypatch.setattr(slurm.subprocess, "Popen", lambda command: started.append(command))
    monkeypatch.setattr(slurm, "_ended", lambda process, heard: 3)
    command = Task(Job("models-cls", ("run",), needs=Needs(nodes=2))).command("py")
    with pytest.raises(SystemExit, match="3"):
        slurm.carry(command, str(tmp_path), "models-cls")
    assert started == [meeting(command, "node7", 20_007, number == 0)]
    assert (outcome(tmp_path, "models-cls") is not None) == (number == 0)


def test_jobs_follow_what_the_study_asks_for() -> None:
    wanted = asked(translated=True, encoders=["colour-texture", "learned"])
    jobs = {job.name: job for job in plan(wanted, COMMAND, Means())}
    assert {"translated", "embeddings", "embeddings-learned"} < set(jobs)
    assert jobs["embeddings-learned"].after == ("samples-cls", "samples-medi", "translated")
    assert jobs["measure"].after == ("embeddings", "embeddings-learned")
    assert {"style-model", "style"} <= {stage.name for stage in prepared(asked(style=True))}, "it needs no model"
    guided = StudySettings.model_validate({"sampling": {"guidance": {"classifier": 2}}})
    assert "classifier" in {stage.name for stage in prepared(guided)}, "nor does the classifier"
    rest = left(list(jobs.values()), [PREPARE, "models/cls", "models/medi"])
    assert rest[0].name == "samples-cls"
    assert rest[0].after == ()


def test_a_study_on_latents_is_jobs_too() -> None:
    """The round trip of the autoencoder, which features read, needs no model."""
    wanted = StudySettings.model_validate({"training": {"autoencoder": "diffusers:vae"}})
    assert [job.name for job in plan(wanted, COMMAND, Means())] == [
        job.name for job in plan(StudySettings(), COMMAND, Means())
    ]
    assert "round_trip" in [stage.name for stage in prepared(wanted)]


def test_the_first_and_the_last_job_do_stale_stages_again() -> None:
    jobs = plan(StudySettings(), COMMAND, Means(), redo=True)
    assert [job.name for job in jobs if "--redo" in job.words] == [PREPARE, MEASURE]


def walked(jobs: list[Job], machine: Machine) -> list[dict[str, tuple[str, ...]]]:
    """Which tasks work at the same time and on which GPUs, where all take as long."""
    ended, steps = set[str](), []
    while len(ended) < sum(job.shards for job in jobs):
        now = startable(jobs, ended, {}, machine)
        assert now, "the plan comes to its end"
        steps.append({task.name: gpus for task, gpus in now.items()})
        ended |= set(steps[-1])
    return steps


def test_two_trainings_share_the_gpus_and_samples_spread_over_all() -> None:
    """A fake list of GPUs; nothing touches them."""
    steps = walked(plan(find_study("quick"), COMMAND, NODE.means()), NODE)
    assert steps[1] == {"models-cls": ("4", "5"), "models-medi": ("6", "7")}
    assert steps[2] == {f"samples-cls-{i}": (gpu,) for i, gpu in enumerate(NODE.gpus)}
    assert steps[4] == {f"embeddings-{i}": (gpu,) for i, gpu in enumerate(NODE.gpus)}
    alone = Machine(("0",), cores=8, workers=1)
    steps = walked(plan(find_study("quick"), COMMAND, alone.means()), alone)
    assert steps[1:3] == [{"models-cls": ("0",)}, {"models-medi": ("0",)}], "one after another on one GPU"


def test_no_gpu_and_no_core_is_given_twice() -> None:
    jobs = plan(find_study("quick"), COMMAND, NODE.means())
    cls, medi = (Task(job) for job in jobs[1:3])
    assert startable(jobs, {"prepare"}, {cls: ("4", "5")}, NODE) == {medi: ("6", "7")}
    assert startable(jobs, {"prepare"}, {cls: ("4", "5"), medi: ("6", "7")}, NODE) == {}
    here = Machine((), cores=8, workers=2)
    jobs = plan(find_study("quick"), COMMAND, here.means())
    assert [len(step) for step in walked(jobs, here)] == [1, 2, 2, 2, 2, 1]
    assert [threads(Task(job), jobs, here) for job in jobs] == [8, 4, 4, 4, 4, 4, 8]
    told = environment(Task(jobs[1]), (), jobs, here)
    assert told["OMP_NUM_THREADS"] == "4"
    assert "CUDA_VISIBLE_DEVICES" not in told
    assert environment(Task(jobs[1]), ("4", "5"), jobs, NODE)["CUDA_VISIBLE_DEVICES"] == "4,5"


def test_a_job_of_slurm_has_the_cores_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert cores() == 3


def test_a_lock_of_an_earlier_life_of_this_job_is_stale_p15(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A job that was killed with its node and put back must not wait for itself; another job still does."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    for job, is_free in (("7.0", True), ("8.0", False), ("7.1", False)):
        other = Holder("another-node", 1, "1", "medi train", job)
        (tmp_path / NAME).write_text(json.dumps(vars(other)))
        if is_free:
            with locked(tmp_path):
                pass
        else:
            with pytest.raises(MediError, match="is in use by process 1 on another-node"), locked(tmp_path):
                pass


def test_the_ledger_is_read_again_and_forgets_earlier_ends(tmp_path: Path) -> None:
    note(tmp_path, "samples-1", 0)
    ledger = Ledger(LOCAL, [Entry("samples", "medi run", ("a",), 2, "12", "jobs/12_{shard}.log")])
    assert outcome(tmp_path, "samples-1") is not None
    ledger.write(tmp_path)
    assert outcome(tmp_path, "samples-1") is None
    assert Ledger.read(tmp_path) == ledger
    assert [ledger.jobs[0].log_of(1), ledger.jobs[0].id_of(1)] == ["jobs/12_1.log", "12_1"]
    assert Ledger.read(tmp_path / "none") is None
    (tmp_path / "log").write_text("x\nmedi: study.yaml: no\nslurmstepd: error\n")
    assert last_words(tmp_path / "log") == "study.yaml: no"


@pytest.mark.slow
def test_a_process_of_a_job_prints_to_its_log(tmp_path: Path) -> None:
    process = launch(Task(Job("version", ("--version",))), tmp_path / "jobs" / "version.log", {})
    assert process.wait() == 0
    assert (tmp_path / "jobs" / "version.log").read_text().startswith("medi ")


def test_what_slurm_says_becomes_a_remedy() -> None:
    said = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    remedy = "no node there has so much, or there are fewer; lower --gpus, --cpus, --mem or --nodes"
    assert refusal(said) == f"Requested node configuration is not available; {remedy}"
    said = "sbatch: error: Batch job submission failed: Node count specification invalid"
    assert "fewer nodes; lower --nodes, or choose another --partition of a" in refusal(said, ["a"])
    assert "lower --nodes or change --partition" in explained(Queued("PENDING", "(PartitionNodeLimit)"))
    assert refusal("sbatch: error: invalid partition specified: x", ["a", "b"]).endswith(
        "choose one of a, b with --partition"
    )
    assert explained(Queued("PENDING", "(PartitionTimeLimit)")).startswith("never starts: --time is longer")
    assert explained(Queued("PENDING", "Licenses")) == "waits (Licenses)"
    assert explained(Queued("RUNNING", "node7")) == "running on node7"


def test_a_job_of_slurm_is_asked_for_what_it_needs() -> None:
    job = Job("models-cls", ("run",), needs=Needs(8, 2, "32G", 60))
    found = parameters(job, Place("gpu"), ["3", "4"])
    assert found["dependency"] == "afterok:3:4"
    assert (found["gpus_per_node"], found["cpus_per_task"], found["time"], found["partition"]) == (2, 8, 60, "gpu")
    assert found["additional_parameters"]["signal"] == "TERM@120"
    assert found["additional_parameters"]["mem"] == "32G"
    assert not {"nodes", "ntasks_per_node"} & set(found)
    several = parameters(Job("models-cls", (), needs=Needs(nodes=3)), Place(), [])
    assert (several["nodes"], several["ntasks_per_node"]) == (3, 1), "torchrun starts the processes of a node itself"
    short = parameters(Job("a", (), needs=Needs(minutes=1)), Place(), [])
    assert short["additional_parameters"]["signal"] == "TERM@15", "a signal at once would never let it work"
    assert not {"dependency", "gpus_per_node", "partition", "account"} & set(short)


# --- a tiny study -----------------------------------------------------------------------------------------------------


class Forked:
    """A command of `medi` in a process of its own that has imported it already."""

    def __init__(self, task: Task, log: Path, told: Mapping[str, str]) -> None:
        self.process = begin(medi_process, *task.command()[3:], **told)

    def poll(self) -> int | None:
        return self.process.exitcode

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self) -> int:
        self.process.join()
        return int(self.process.exitcode or 0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a packed cohort beside it."""
    folder = tmp_path_factory.mktemp("tiny")
    combinations = [(name, site) for name in ("solid", "spindle") for site in ("Alder", "Birch")]
    found = phantom.fresh(combinations, 24, 0, "own", 32, 2)
    Cohort(found.table, found.schema.restrict(["site"]), found.pixels).save(folder / "packed")
    study = {
        "cohort": {"source": "packed", "size": 32},
        "holdout": {"kind": "named", "held": [["solid", "Alder"]], "min_patients": 1, "test_seen": 0.3},
        "network": {"size": 32, "fold": 4, "channels": [8], "layers": 1},
        "training": {"images": 256, "batch": 8, "save_every": 64},
        "plan": {"to": 12, "minimum": 8},
        "sampling": {"steps": 2, "batch": 8},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


def jobs_of(study: Path, out: Path) -> list[Job]:
    """All but the last job, cut for two processes."""
    return plan(read_study(study), ("run", str(study), "--out", str(out)), Means(shards=2))[:-1]


def to_features(study: Path, out: Path) -> dict[str, str]:
    """The stages up to the features, in this process; a hash of every file that was made by models or from them."""
    settings = read_study(study)
    run, opened = Run(out, Silent()), Study(settings, out)
    for stage in road(settings):
        if not stage.name.startswith("tables"):
            run.do(stage, opened)
    made = [path for name in ("models", "samples", "embeddings") for path in sorted((out / name).rglob("*"))]
    kept = [path for path in made if path.is_file() and path.name not in ("speed.jsonl", "state.safetensors")]
    return {str(path.relative_to(out)): file_hash(path) for path in kept if "log" not in path.name}


@pytest.mark.slow
def test_two_processes_give_what_one_run_gives_to_the_last_bit_p3_p4_p12(tiny: Path, tmp_path: Path) -> None:
    """One of the trainings is killed for good on its way; the same call goes on."""
    prepare(read_study(tiny), tmp_path / "one", Silent())
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    done = done_parts(read_study(tiny), Run(tmp_path / "two", Silent()))
    assert done == [PREPARE]
    jobs, two = left(jobs_of(tiny, tmp_path / "two"), done), Machine((), 2, 2)
    started: list[Forked] = []

    def killing(task: Task, log: Path, told: Mapping[str, str]) -> Forked:
        started.append(Forked(task, log, told))
        if task.name == "models-medi":
            state = tmp_path / "two" / "models" / "medi" / "state.safetensors"
            until = time.monotonic() + 60
            while not state.exists() and time.monotonic() < until:
                time.sleep(0.01)
            started[-1].process.kill()
        return started[-1]

    with pytest.raises(MediError, match=r"models-medi: was killed by signal 9.*the same command goes on"):
        run_here(jobs, tmp_path / "two", two, Silent(), killing)
    assert not any(one.process.is_alive() for one in started), "no process is left behind"
    run_here(jobs, tmp_path / "two", two, Silent(), Forked)
    assert read_json(tmp_path / "two" / "jobs" / "samples-medi-1.json")["code"] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("model.safetensors")}
    assert to_features(tiny, tmp_path / "two") == to_features(tiny, tmp_path / "one")
    assert before == {path: path.stat().st_mtime_ns for path in before}, "the stage found its work done"
    assert not (tmp_path / "two" / "embeddings" / "parts").exists()


@pytest.mark.slow
def test_the_first_part_of_a_study_on_latents_makes_the_round_trip(tiny: Path, tmp_path: Path) -> None:
    study = yaml.safe_load(tiny.read_text())
    study["training"] |= {"autoencoder": write_autoencoder(tmp_path / "vae"), "least_psnr": 0.0}
    study["cohort"]["source"] = str(tiny.parent / "packed")
    wanted = StudySettings.model_validate(study)
    prepare(wanted, tmp_path / "r", Silent())
    assert done_parts(wanted, Run(tmp_path / "r", Silent())) == [PREPARE]
    made, floor = Cohort.load(tmp_path / "r" / "round_trip"), Study(wanted, tmp_path / "r").real_sets()["floor"]
    assert 0 < len(made) <= len(floor)
    assert set(made.table["sample_id"]) <= set(floor.table["sample_id"])


@pytest.mark.slow
def test_parts_are_refused_by_name_and_before_the_first_one(tiny: Path, medi: Medi) -> None:
    run = ("run", tiny, "--out", "r", "--part")
    refused(medi(*run, "models/cls"), "r: study.yaml is not done", f"--part {PREPARE}")
    refused(medi(*run, "models/clss"), "--part models/clss: is no part; known: prepare, models/cls", "did you mean")
    refused(medi(*run, "models/cls", "--shard", "0/2"), "--part models/cls is not cut into shards")
    refused(medi(*run, MEASURE, "--shard", "0/2"), f"--part {MEASURE} is not cut into shards")
    refused(medi(*run, PREPARE, "--dry-run"), "--part does one part here and now; leave --dry-run out")
    refused(medi("run", tiny, "--shard", "0/2"), "--shard goes with --part")
    refused(medi("run", tiny, "--on", "slrm", "--mem", "1G"), "--on 'slrm': expected local or slurm")
    refused(medi("run", tiny, "--on", "slurm", "--time", "soon"), "--time 'soon': expected minutes")
    refused(medi("run", tiny, "--on", "slurm", "--mem", "much"), "--mem 'much': expected a number")


@pytest.mark.slow
def test_options_that_would_be_passed_over_are_refused_p15(tiny: Path, medi: Medi) -> None:
    for words, said in {
        ("--partition", "x"): "--partition goes with --on slurm; add that, or leave --partition out",
        ("--dry-run", "--cpus", 2): "--cpus goes with --on slurm",
        ("--on", "local", "--nodes", 2): "--nodes goes with --on slurm",
        ("--on", "local", "--time", "1:00"): "--time goes with --on slurm",
        ("--workers", 2): "--workers goes with --on local",
        ("--shards", 2): "--shards goes with --on local or slurm",
        ("--on", "slurm", "--workers", 2): "--workers goes with --on local",
        ("--part", PREPARE, "--shards", 2): "--shards goes with --on local or slurm",
    }.items():
        refused(medi("run", tiny, "--out", "r", *words), said)
    assert not Path("r").exists()


def test_without_slurm_nothing_is_written(
    tiny: Path, medi: Medi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(medi("run", tiny, "--out", "r", "--on", "slurm"), "there is no Slurm here", "--on local")
    assert list(tmp_path.iterdir()) == []


def test_redo_writes_nothing_into_a_folder_that_holds_no_run(tiny: Path, medi: Medi, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused(medi("run", tiny, "--out", "mine", "--on", "local", "--redo"), "mine: is not empty and holds no run")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_folder_of_jobs_that_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise MediError("Slurm refused the job prepare")

    monkeypatch.setattr(slurm, "_submit", refuse)
    note(tmp_path, "mine")
    with pytest.raises(MediError, match="Slurm refused"):
        slurm.submit(plan(StudySettings(), COMMAND, Means()), tmp_path, Place())
    assert (tmp_path / "jobs" / "mine.json").exists()


def test_a_strange_list_of_jobs_is_refused(medi: Medi, tmp_path: Path) -> None:
    (tmp_path / "r" / "jobs").mkdir(parents=True)
    refused(medi("status", "r"), "r: holds no run of medi")
    for content in ("[]", '{"format_version": 1, "on": "slurm", "jobs": [{"name": "x"}]}'):
        (tmp_path / "r" / "jobs" / "jobs.json").write_text(content)
        refused(medi("status", "r"), "r/jobs/jobs.json: lists no jobs of a run")
    (tmp_path / "r" / "run.json").write_text("[]")
    refused(medi("status", "r"), "r/run.json: lists no stages of a run")


def test_status_tells_of_jobs_that_failed(tiny: Path, medi: Medi) -> None:
    """Also of a run whose first job never wrote a stage."""
    ledger = Ledger(LOCAL, [Entry("prepare", "medi run", (), 1, "", "jobs/p.log"), Entry("samples", "", (), 2)])
    ledger.write(Path("r"))
    note(Path("r"), "prepare", 2)
    Path("r/jobs/p.log").write_text("medi: r/cohort: cannot be written (No space left on device); make room\n")
    shown = " ".join(fine(medi("status", "r")).replace("│", " ").split())
    assert "failed: r/cohort: cannot be written (No space left on device); make room" in shown
    assert "2 not begun" in shown
    assert "the same command goes on" in shown
    refused(medi("status", "r", "--cancel"), "r: has no jobs in a queue")


def test_status_of_jobs_whose_queue_cannot_be_asked(tiny: Path, medi: Medi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: it ended in an error where there is no squeue, as on another machine. Our own files tell."""
    monkeypatch.setenv("PATH", str(Path.cwd()))
    entries = [Entry(name, "", (), 1, str(number)) for number, name in enumerate(("prepare", "models-cls", "measure"))]
    Ledger(SLURM, entries).write(Path("r"))
    note(Path("r"), "prepare", 0)
    note(Path("r"), "models-cls")
    shown = " ".join(fine(medi("status", "r")).replace("│", " ").split())
    assert "prepare 0 done models-cls 1 not known here: it has begun measure 2 not known here" in shown
    assert "the state of these jobs cannot be asked here: squeue is not found; ask where your cluster's jobs" in shown
    assert "nobody works" not in shown
    refused(medi("status", "r", "--cancel"), "squeue is not found")


def test_what_ended_a_job_is_told() -> None:
    """Defect: one that was ended by SIGTERM was asked whether memory was short."""
    task = Job("models-cls", ("run",)).tasks[0]
    assert "models-cls: was ended by signal 15 (SIGTERM) (all it printed" in str(_failed(task, -15, Path("x.log")))
    assert "models-cls: was killed by signal 9; was memory short?" in str(_failed(task, -9, Path("x.log")))


def test_a_dry_run_prints_the_jobs_and_writes_nothing(tiny: Path, medi: Medi, tmp_path: Path) -> None:
    shown = fine(
        medi("run", tiny, "--out", "r", "--on", "slurm", "--dry-run", "--gpus", 2, "--nodes", 3, "--shards", 8)
    )
    rows = [line.split("│") for line in shown.splitlines() if "models-medi " in line and "prepare" in line]
    assert [row[4].strip() for row in rows] == ["3"]
    assert f"medi run {tiny} --out r --part samples/cls --device cuda --shard I/8" in shown.splitlines()
    assert f"medi run {tiny} --out r --part {MEASURE}" in shown.splitlines()
    again = f"medi run {tiny} --out r --on slurm --shards 8 --gpus 2 --nodes 3"
    assert f"next: {again}" in " ".join(shown.split()), "with the options that were given"
    assert list(tmp_path.iterdir()) == []
