"""A study as jobs: what each runs, what it waits for, and what it needs. Pure data: nothing here starts a process.

Each job is a command that a person can type. It goes on where it was killed (P12), and does nothing where it is done,
so that a job that lost its machine is simply started again.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from medi.core.errors import MediError
from medi.study.parts import MEASURE, PREPARE, prepared, shared
from medi.study.settings import StudySettings
from medi.study.study import road

MEETING = "MEETING"  # in a command for several nodes: where they meet, which is known when they begin


@dataclass(frozen=True)
class Needs:
    """What one task of a job needs of a machine, or of each of several nodes that work on it together. memory: as Slurm
    writes it, such as 16G; "" where it says nothing."""

    cpus: int = 1
    gpus: int = 0
    memory: str = ""
    minutes: int = 24 * 60
    nodes: int = 1


@dataclass(frozen=True)
class Job:
    """A part of a study, or each share of it. after: the jobs that must have ended well. shards: how many tasks."""

    name: str
    words: Sequence[str]
    after: tuple[str, ...] = ()
    shards: int = 1
    needs: Needs = field(default_factory=Needs)

    def task(self, shard: int) -> "Task":
        """One of its tasks."""
        return Task(self, shard)

    @property
    def tasks(self) -> "list[Task]":
        """All of them."""
        return [self.task(shard) for shard in range(self.shards)]

    @property
    def shown(self) -> str:
        """The command, with I for the number of the task in an array."""
        return " ".join(["medi", *self.words, *([] if self.shards == 1 else ["--shard", f"I/{self.shards}"])])


@dataclass(frozen=True)
class Task:
    """One process of a job: all of it, or one share."""

    job: Job
    shard: int = 0

    @property
    def name(self) -> str:
        """As the job, and of an array with the number of the share."""
        return self.job.name if self.job.shards == 1 else f"{self.job.name}-{self.shard}"

    def command(self, python: str = sys.executable) -> list[str]:
        """What is executed, on every node; a training on several GPUs or nodes is a process for each GPU, or node, by
        torchrun."""
        needs = self.job.needs
        shard = [] if self.job.shards == 1 else ["--shard", f"{self.shard}/{self.job.shards}"]
        where = ["--nnodes", f"{needs.nodes}", MEETING] if needs.nodes > 1 else ["--standalone"]
        torchrun = ["-m", "torch.distributed.run", *where, "--nproc_per_node", f"{max(needs.gpus, 1)}"]
        together = torchrun if max(needs.gpus, needs.nodes) > 1 else []
        return [python, *together, "-m", "medi.cli", *self.job.words, *shard]


def meeting(command: Sequence[str], first: str, port: int, is_first: bool) -> list[str]:
    """The command of a training on several nodes as one of them executes it. first: the host where all meet."""
    at = list(command).index(MEETING)
    words = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"{first}:{port}", "--rdzv_conf", f"is_host={int(is_first)}"]
    return [*command[:at], *words, *command[at + 1 :]]


@dataclass(frozen=True)
class Means:
    """What there is to compute with: GPUs of a training, cores of a job, shards of what can be cut.

    gpus: of each training, on each of its nodes; 0 for none. Every other shared job has one of them, or none. nodes: of
    each training; every other task has one.
    """

    shards: int = 1
    gpus: int = 0
    cpus: int = 4
    memory: str = ""
    minutes: int = 24 * 60
    nodes: int = 1


def plan(settings: StudySettings, command: Sequence[str], means: Means, redo: bool = False) -> list[Job]:
    """The jobs of a study, each after those that it needs. command: `run STUDY --out RUN`, as typed. redo: the first
    and the last do stale stages again, and the first deletes what is stale of the others.

    Whatever needs no model is one job, each training is one, samples and features are arrays of `shards` tasks, and
    the rest is one job. MediError where a network is to be cut among the processes of a training that is one process.
    """
    if settings.training.shard_model and max(means.gpus, 1) * means.nodes < 2:
        raise MediError(
            "training.shard_model cuts a network among several processes, and each training would be one; give it more "
            "GPUs or nodes (--on slurm --gpus 2, or --nodes 2), or leave training.shard_model out"
        )
    on_cpu = Needs(means.cpus, 0, means.memory, means.minutes)
    again = ("--redo",) if redo else ()
    jobs = [Job(PREPARE, (*command, "--part", PREPARE, *again), needs=on_cpu)]
    of_stage: dict[str, tuple[str, ...]] = {stage.name: (PREPARE,) for stage in prepared(settings)}
    for part, stage, _ in shared(settings):
        is_cut = stage.ahead is not None and stage.ahead.is_cut
        gpus = min(means.gpus, 1) if is_cut else means.gpus
        needs = Needs(means.cpus, gpus, means.memory, means.minutes, 1 if is_cut else means.nodes)
        after = tuple(dict.fromkeys(name for read in stage.reads for name in of_stage[read]))
        words = (*command, "--part", part, *(["--device", "cuda"] if gpus else []))
        jobs.append(Job(job_of(part), words, _nearest(after, jobs), means.shards if is_cut else 1, needs))
        of_stage[stage.name] = (*of_stage.get(stage.name, ()), jobs[-1].name)
    last = [name for stage in road(settings) if stage.ahead for name in of_stage[stage.name]]
    jobs.append(Job(MEASURE, (*command, "--part", MEASURE, *again), _nearest(last, jobs), needs=on_cpu))
    return jobs


def _nearest(names: Iterable[str], jobs: Sequence[Job]) -> tuple[str, ...]:
    """Those of the jobs that no other of them waits for: the others have ended before."""
    wanted, known = list(names), {job.name: job for job in jobs}
    before = {name for one in wanted for name in _before(one, known)}
    return tuple(name for name in wanted if name not in before)


def _before(name: str, known: Mapping[str, Job]) -> set[str]:
    found = set(known[name].after)
    return found.union(*(_before(one, known) for one in found))


def job_of(part: str) -> str:
    """The name of a part's job."""
    return part.replace("/", "-")


def left(jobs: Sequence[Job], parts: Iterable[str]) -> list[Job]:
    """The jobs without those of the parts that are done; none waits for one of these."""
    gone = set(map(job_of, parts))
    kept = [job for job in jobs if job.name not in gone]
    return [Job(j.name, j.words, tuple(name for name in j.after if name not in gone), j.shards, j.needs) for j in kept]


# --- who gets which GPU -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What one machine gives to jobs: GPUs by the names that CUDA_VISIBLE_DEVICES has for them, cores, and how many
    processes work at once."""

    gpus: tuple[str, ...] = ()
    cores: int = 1
    workers: int = 1

    def means(self, shards: int | None = None) -> Means:
        """All of it: the two trainings share the GPUs, or the cores; samples and features are cut for all of them."""
        each = max(len(self.gpus) // 2, min(len(self.gpus), 1))
        return Means(shards or len(self.gpus) or self.workers, each, self.cores)


def startable(
    jobs: Sequence[Job], ended: Iterable[str], running: Mapping[Task, Sequence[str]], machine: Machine
) -> dict[Task, tuple[str, ...]]:
    """The tasks that can start now, in their order, and the GPUs that each gets; no GPU has two tasks.

    ended: names of tasks that ended well. running: those at work, and their GPUs.
    """
    over, found = set(ended), dict[Task, tuple[str, ...]]()
    taken = {gpu for gpus in running.values() for gpu in gpus}
    idle = [gpu for gpu in machine.gpus if gpu not in taken]
    whole = {job.name for job in jobs if all(task.name in over for task in job.tasks)}
    for task in (task for job in jobs if set(job.after) <= whole for task in job.tasks):
        wanted = task.job.needs.gpus
        if task.name in over or task in running:
            continue
        if len(running) + len(found) >= max(machine.workers, len(machine.gpus)) or wanted > len(idle):
            break
        found[task], idle = tuple(idle[:wanted]), idle[wanted:]
    return found


def threads(task: Task, jobs: Sequence[Job], machine: Machine) -> int:
    """The cores of a task: an equal share among those that can work at the same time."""
    beside = sum(job.shards for job in jobs if job.after == task.job.after)
    at_once = min(beside, max(machine.workers, len(machine.gpus)))
    return max(machine.cores // max(at_once, 1), 1)
