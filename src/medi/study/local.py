"""The jobs of a study on this machine: processes beside each other, each with its GPUs or its share of the cores."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from medi.core.devices import VISIBLE, visible_gpus
from medi.core.errors import MediError
from medi.core.locks import locked
from medi.core.processes import THREADS
from medi.core.progress import Show
from medi.core.stopping import by_signal, ended_by_sigterm
from medi.core.threads import cores
from medi.study.jobs import Job, Machine, Task, startable, threads
from medi.study.ledger import LOCAL, Ledger, entry, last_words, log_file, note

LOOK = 0.1  # seconds between two looks at the processes
PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when the one that started it is gone


@runtime_checkable
class Process(Protocol):
    """A process that was started."""

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def wait(self) -> int: ...


Launch = Callable[[Task, Path, Mapping[str, str]], Process]  # with its log, and its environment beside ours


def this_machine(workers: int | None = None) -> Machine:
    """The visible GPUs and the cores; by default as many processes at once as cores, or GPUs where there are any."""
    gpus = visible_gpus()
    return Machine(gpus, cores(), workers or len(gpus) or cores())


def launch(task: Task, log: Path, environment: Mapping[str, str]) -> Process:
    """The command of a task as a process that ends, after saving, when this one is gone."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            task.command(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            preexec_fn=_follow if sys.platform == "linux" else None,
        )


def _follow() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run_here(jobs: Sequence[Job], run: Path, machine: Machine, show: Show, start: Launch = launch) -> None:
    """Run jobs, each after those that it waits for, and return when all have ended well.

    The first failure stops the others, which save what they have; so do Ctrl-C and SIGTERM. MediError names the job
    that failed, with its last words and its log. The same call goes on.
    """
    with locked(run, "jobs"), ended_by_sigterm():
        Ledger(
            LOCAL, [entry(job, log=f"jobs/{job.name}{'' if job.shards == 1 else '-{shard}'}.log") for job in jobs]
        ).write(run)
        running, ended = dict[Task, tuple[Process, tuple[str, ...]]](), set[str]()
        try:
            while len(ended) < sum(job.shards for job in jobs):
                used = {task: gpus for task, (_, gpus) in running.items()}
                for task, gpus in startable(jobs, ended, used, machine).items():
                    note(run, task.name)
                    started = start(task, log_file(run, task), environment(task, gpus, jobs, machine))
                    running[task] = (started, gpus)
                    show.line(f"{task.name}: begun" + (f" on GPU {', '.join(gpus)}" if gpus else ""))
                time.sleep(LOOK)
                ended |= _reap(running, run, show)
        finally:
            _stop(running)


def environment(task: Task, gpus: Sequence[str], jobs: Sequence[Job], machine: Machine) -> dict[str, str]:
    """What a task is told of its share: the GPUs that it sees, and the threads that it may use."""
    shown = {VISIBLE: ",".join(gpus)} if machine.gpus else {}
    return shown | dict.fromkeys(THREADS, str(threads(task, jobs, machine)))


def _reap(running: dict[Task, tuple[Process, tuple[str, ...]]], run: Path, show: Show) -> set[str]:
    """The tasks that have ended well since the last look."""
    ended = set()
    for task in list(running):
        code = running[task][0].poll()
        if code is None:
            continue
        del running[task]
        note(run, task.name, code)
        if code:
            raise _failed(task, code, log_file(run, task))
        ended.add(task.name)
        show.line(f"{task.name}: done")
    return ended


def _failed(task: Task, code: int, log: Path) -> MediError:
    """What is said of a job that did not end well."""
    why = by_signal(code) if code < 0 else last_words(log) or f"exit code {code}"
    return MediError(f"{task.name}: {why} (all it printed: {log}); the same command goes on")


def _stop(running: Mapping[Task, tuple[Process, tuple[str, ...]]]) -> None:
    """End what still works; it saves first."""
    for process, _ in running.values():
        process.terminate()
    for process, _ in running.values():
        process.wait()
