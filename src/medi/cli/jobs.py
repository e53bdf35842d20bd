"""What the verbs run and status share of the jobs of a study: their options, their table, how they are begun."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from medi.cli.options import one_of
from medi.cli.terminal import Terminal, console, printable, say
from medi.core.errors import MediError

if TYPE_CHECKING:
    from medi.study.jobs import Job
    from medi.study.settings import StudySettings

JOBS = "Jobs on several processes, GPUs or machines"  # heading of the help
PLACES = ("local", "slurm")
HEEDED = {  # which places heed an option
    "workers": ("local",),
    "shards": PLACES,
    **dict.fromkeys(("gpus", "nodes", "cpus", "time", "mem", "partition", "account"), ("slurm",)),
}


def _option(help: str, metavar: str | None = None, shown: bool | str = False, **more: object) -> object:
    return typer.Option(help=help, metavar=metavar, show_default=shown, rich_help_panel=JOBS, **more)  # type: ignore[arg-type]


On = Annotated[
    str | None,
    _option(
        "local (processes of this machine) or slurm.",
        "PLACE",
        "local with several GPUs",
        autocompletion=one_of(*PLACES),
    ),
]
Part = Annotated[str | None, _option("Do one part of the study alone, as the jobs do.", "NAME")]
PartShard = Annotated[str, _option("With --part: share I of N.", "I/N", "0/1")]
Workers = Annotated[int | None, _option("Processes at once, with local.", None, "one a core, or a GPU", min=1)]
Shards = Annotated[int | None, _option("Tasks that share samples and features.", None, "4, or --workers", min=1)]
Gpus = Annotated[int, _option("GPUs of each training, with slurm.", None, True, min=0)]
Nodes = Annotated[int, _option("Machines of each training, with slurm; GPUs are of each.", None, True, min=1)]
Cpus = Annotated[int, _option("Cores of each task, with slurm.", None, True, min=1)]
Time = Annotated[str, _option("Limit of each job: hours:minutes:seconds, days-hours or minutes.", "T", True)]
Mem = Annotated[str, _option("Memory of each task, such as 16G.", "M", "the cluster's")]
Partition = Annotated[str, _option("Partition of the cluster.", "P", "the cluster's")]
Account = Annotated[str, _option("Account that is charged.", "A", "yours")]


@dataclass(frozen=True)
class Asked:
    """What the options ask for. on: "" where it is this process; command: `run STUDY ...` as typed, which every job
    repeats with its part."""

    on: str
    command: Sequence[str]
    workers: int | None = None
    shards: int | None = None
    gpus: int = 0
    nodes: int = 1
    cpus: int = 4
    time: str = "24:00:00"
    mem: str = ""
    partition: str = ""
    account: str = ""
    redo: bool = False


def refuse_unheeded(asked: Asked) -> None:
    """An error for a place that is not known, and for the first option that the place would pass over."""
    if asked.on not in (*PLACES, ""):
        raise MediError(f"--on {asked.on!r}: expected {' or '.join(PLACES)}")
    usual = Asked(asked.on, ())
    for name, places in HEEDED.items():
        if getattr(asked, name) != getattr(usual, name) and asked.on not in places:
            raise MediError(f"--{name} goes with --on {' or '.join(places)}; add that, or leave --{name} out")


def typed(asked: Asked) -> list[str]:
    """The options of jobs that were given, as they are typed.

    >>> typed(Asked("slurm", (), gpus=2, mem="32G"))
    ['--on', 'slurm', '--gpus', '2', '--mem', '32G']
    """
    usual = Asked(asked.on, ())
    changed = [name for name in HEEDED if getattr(asked, name) != getattr(usual, name)]
    return ["--on", asked.on, *(word for name in changed for word in (f"--{name}", str(getattr(asked, name))))]


def minutes(text: str) -> int:
    """Minutes of a time as Slurm has it, rounded up.

    >>> minutes("90"), minutes("24:00:00"), minutes("2-12"), minutes("0:30")
    (90, 1440, 3600, 1)
    """
    found = re.fullmatch(r"(?:(\d+)-(\d+)(?::(\d+))?(?::(\d+))?)|(?:(\d+)(?::(\d+))?(?::(\d+))?)", text)
    if found is None:
        raise MediError(f"--time {text!r}: expected minutes, hours:minutes:seconds or days-hours, such as 2-12")
    days, hours, more, seconds, first, second, third = (int(part or 0) for part in found.groups())
    if found[1]:
        total = ((days * 24 + hours) * 60 + more) * 60 + seconds
    elif found[7]:
        total = (first * 60 + second) * 60 + third
    else:
        total = first * 60 + second
    if total == 0:
        raise MediError(f"--time {text!r}: a job needs some time")
    return -(-total // 60)


def planned(settings: "StudySettings", asked: Asked) -> "list[Job]":
    """The jobs of a study with the means that were asked for."""
    from medi.study.jobs import Means, plan
    from medi.study.local import this_machine

    if asked.mem and not re.fullmatch(r"\d+[KMGT]?", asked.mem):
        raise MediError(f"--mem {asked.mem!r}: expected a number with K, M, G or T, such as 16G")
    means = Means(asked.shards or 4, asked.gpus, asked.cpus, asked.mem, minutes(asked.time), asked.nodes)
    if asked.on == "local":
        means = this_machine(asked.workers).means(asked.shards)
    return plan(settings, asked.command, means, asked.redo)


def begin(settings: "StudySettings", asked: Asked, out: Path) -> None:
    """Run the jobs here but for the last, or submit all; those of parts that are done are left out."""
    from medi.study.jobs import left
    from medi.study.parts import MEASURE, done_parts
    from medi.study.slurm import Place, check_nodes, check_slurm, submit
    from medi.study.stages import holds_run
    from medi.study.study import check, opened
    from medi.study.upkeep import LOG

    terminal = Terminal(keep=out / LOG)
    jobs, place = planned(settings, asked), Place(asked.partition, asked.account)
    check(settings)
    if asked.on == "slurm":
        check_slurm()
        check_nodes(asked.nodes, place)
    if holds_run(out) and not asked.redo:
        jobs = left(jobs, done_parts(settings, opened(settings, out, terminal, redo=False)))
    if asked.on == "local":
        from medi.study.local import run_here, this_machine

        run_here([job for job in jobs if job.name != MEASURE], out, this_machine(asked.workers), terminal)
        return
    terminal.open_log()
    ledger = submit(jobs, out, place)
    for entry in ledger.jobs:
        say(f"{entry.name}: submitted as {entry.id}{f', {entry.shards} tasks' if entry.shards > 1 else ''}")


def show_plan(jobs: "Sequence[Job]") -> None:
    """A row per job, then the commands, ready to be typed."""
    table = Table(title="jobs", title_justify="left")
    for name in ("job", "after", "tasks", "nodes", "cores", "GPUs", "memory", "time"):
        table.add_column(name, justify="left" if name in ("job", "after") else "right", no_wrap=name == "job")
    for job in jobs:
        needs = job.needs
        time = f"{needs.minutes // 60}:{needs.minutes % 60:02d}:00"
        numbers = (f"{job.shards}", f"{needs.nodes}", f"{needs.cpus}", f"{needs.gpus}", needs.memory or "-", time)
        table.add_row(job.name, " ".join(job.after), *numbers)
    console.print(table)
    for job in jobs:
        say(job.shown)


def show_states(run: Path) -> bool:
    """A row per job of a run, and where each prints to; whether some wait or work."""
    from medi.study.watching import job_states

    found, why = job_states(run)
    if not found:
        return False
    table = Table(title="jobs", title_justify="left")
    for name in ("job", "Slurm", "state", "progress"):
        table.add_column(name, overflow="fold")
    for job in found:
        table.add_row(job.name, job.id, printable(job.state), job.progress)
    console.print(table)
    if why:
        say(f"the state of these jobs cannot be asked here: {why}")
    for job in found:
        if job.log:
            say(f"{job.name} prints to {job.log}")
    return any(job.is_open for job in found)
