"""The jobs of a study on a cluster with Slurm, submitted by submitit, which carries their command lines alone.

What runs on a node is the command and a few lines around it: a command that Slurm stops before it is done, at its time
limit or for a job of higher priority, saves what it has, and its job goes back to the queue. No pickle is read (P11).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medi.core.errors import MediError
from medi.core.locks import forget
from medi.core.stopping import Signal, noted
from medi.study.jobs import MEETING, Job, meeting
from medi.study.ledger import FOLDER, SLURM, Ledger, entry, note

WARNED = 120  # seconds before its time limit that a job is told to save
MOST_RESTARTS = 100  # of one job; one that gets nowhere ends
PATIENCE = 5.0  # seconds after a signal to the job until its command is told as well
PORT, PORTS = 20_000, 10_000  # where the processes of a training on several nodes find each other, by the job's number
REMEDIES = {  # what sbatch says, and what can be done about it
    "invalid partition": "choose one of {partitions} with --partition",
    "invalid account": "choose another --account; `sacctmgr show user $USER withassoc` lists yours, where there is one",
    "generic resource": "no node there has such GPUs; lower --gpus, or choose another --partition of {partitions}",
    "node configuration is not available": "no node there has so much, or there are fewer; lower --gpus, --cpus, "
    "--mem or --nodes",
    "node count": "there are or may be fewer nodes; lower --nodes, or choose another --partition of {partitions}",
    "time limit": "the partition allows less time; lower --time, the jobs go on where they were cut off",
    "memory": "lower --mem",
    "configuration source": "Slurm is not set up on this machine; submit where jobs of your cluster are submitted",
    "unable to contact": "Slurm's controller does not answer; try again later",
}
REASONS = {  # why squeue says that a job waits
    "Resources": "waits for cores, memory or GPUs",
    "Priority": "waits behind jobs of higher priority",
    "Dependency": "waits for the jobs before it",
    "BeginTime": "was put back into the queue and starts again within two minutes",
    "PartitionTimeLimit": "never starts: --time is longer than the partition allows; cancel, and lower --time",
    "PartitionNodeLimit": "never starts: the partition has no such nodes; cancel, lower --nodes or change --partition",
    "PartitionConfig": "never starts as it is; cancel, and lower --time, --cpus, --gpus or --mem",
    "PartitionDown": "waits until the partition is up again",
    "PartitionInactive": "never starts: the partition is closed; cancel, and choose another --partition",
    "BadConstraints": "never starts: no node has what it asks for; cancel, and lower --gpus, --cpus or --mem",
    "ReqNodeNotAvail": "waits for nodes that are down or reserved",
    "DependencyNeverSatisfied": "never starts: a job before it failed; cancel, mend that and submit again",
    "JobHeldUser": "is held; `scontrol release` lets it go",
    "JobHeldAdmin": "is held by an administrator",
    "AssociationResourceLimit": "waits: your account uses all that it may",
}


@dataclass(frozen=True)
class Place:
    """Where on a cluster jobs run; "" is what the cluster has by default."""

    partition: str = ""
    account: str = ""


@dataclass(frozen=True)
class Queued:
    """What squeue says of a task: its state, and why it waits or where it runs."""

    state: str
    why: str


def submit(jobs: Sequence[Job], run: Path, place: Place) -> Ledger:
    """Submit jobs, each after those that it waits for; what was submitted is kept in the run folder.

    MediError where jobs of this run are still in the queue, and for what Slurm refuses; then nothing stays submitted.
    """
    before = Ledger.read(run)
    if before is not None and before.on == SLURM:
        if waiting := queued(before):
            raise MediError(
                f"{run}: {len(waiting)} of its tasks are still in the queue, the first {min(waiting)}; "
                f"`medi status {run}` shows them, with --cancel it cancels them"
            )
        forget(run, [one.id for one in before.jobs])
    ids, is_new = dict[str, str](), not (run / FOLDER).exists()
    try:
        for job in jobs:
            ids[job.name] = _submit(job, run, place, [ids[name] for name in job.after])
        ledger = Ledger(SLURM, [entry(job, ids[job.name], _log(job, ids[job.name])) for job in jobs])
        ledger.write(run)
    except BaseException:
        cancel_ids(ids.values())
        if is_new:
            shutil.rmtree(run / FOLDER, ignore_errors=True)
        raise
    return ledger


def check_slurm() -> None:
    """Refuse to go on where nothing can be submitted."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise MediError(
            "there is no Slurm here (sbatch is not found); run this where jobs of your cluster are submitted, or use "
            "--on local"
        )
    if find_spec("submitit") is None:
        raise MediError("submitit is not installed: pip install 'medi-histo[cluster]'")


def _submit(job: Job, run: Path, place: Place, after: Sequence[str]) -> str:
    """The number that Slurm gives a job."""
    import submitit

    folder = (run / FOLDER).absolute()
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(**parameters(job, place, after))
    tasks = job.tasks
    try:
        if len(tasks) == 1:
            return str(executor.submit(carry, tasks[0].command(), str(run.absolute()), tasks[0].name).job_id)
        columns = zip(*((task.command(), str(run.absolute()), task.name) for task in tasks))
        return str(executor.map_array(carry, *columns)[0].job_id).partition("_")[0]
    except OSError as error:
        raise MediError(
            f"{folder}: cannot be written ({error.strerror}); make room on the disk or choose another --out"
        ) from error
    except (RuntimeError, subprocess.SubprocessError) as error:
        raise MediError(f"Slurm refused the job {job.name}: {refusal(str(error), partitions())}") from error


def parameters(job: Job, place: Place, after: Sequence[str]) -> dict[str, Any]:
    """What submitit writes at the top of the batch script."""
    needs = job.needs
    more = {"requeue": True, "kill-on-invalid-dep": "yes", "signal": f"TERM@{min(WARNED, needs.minutes * 15)}"}
    if needs.memory:
        more["mem"] = needs.memory
    asked: dict[str, Any] = {
        "job_name": f"medi-{job.name}",
        "time": needs.minutes,
        "cpus_per_task": needs.cpus,
        "srun_args": [f"--cpus-per-task={needs.cpus}"],  # srun does not take it from the job since Slurm 22.05
        "setup": [f"export OMP_NUM_THREADS={needs.cpus}"],
        "stderr_to_stdout": True,
        "additional_parameters": more,
    }
    if needs.gpus:
        asked["gpus_per_node"] = needs.gpus
    if needs.nodes > 1:
        asked |= {"nodes": needs.nodes, "ntasks_per_node": 1}
    if after:
        asked["dependency"] = f"afterok:{':'.join(after)}"
    return asked | {
        name: value for name, value in (("partition", place.partition), ("account", place.account)) if value
    }


def _log(job: Job, id: str) -> str:
    """Where submitit lets a task print to, from the run folder."""
    return f"{FOLDER}/{id}_0_log.out" if job.shards == 1 else f"{FOLDER}/{id}_{{shard}}_0_log.out"


def refusal(text: str, known: Sequence[str] = ()) -> str:
    """What sbatch said, in one line, and what can be done about it."""
    said = re.findall(r"sbatch: error: (.*)", text)
    line = next((one for one in said if "Batch job submission failed" in one), (said or text.splitlines() or [""])[-1])
    whole = " ".join(said or [text]).lower()
    remedy = next((found for words, found in REMEDIES.items() if words in whole), "change the options and try again")
    line = line.removeprefix("Batch job submission failed: ")
    return f"{line.rstrip('.')}; {remedy.format(partitions=', '.join(known) or 'those of sinfo')}"


def check_nodes(wanted: int, place: Place) -> None:
    """Refuse more nodes than a partition has, for which jobs would wait for ever: sbatch itself often takes them."""
    rows = [line.rpartition("|") for line in _asked("sinfo", "-h", "-o", "%P|%D").splitlines()] if wanted > 1 else []
    count = Counter[str]()
    for name, _, nodes in rows:
        count[name.rstrip("*")] += int(nodes)
    usual = next((name.rstrip("*") for name, *_ in rows if name.endswith("*")), "")
    chosen = place.partition or usual
    if chosen in count and count[chosen] < wanted:
        others = ", ".join(name for name in sorted(count) if count[name] >= wanted)
        remedy = (
            f"lower --nodes, or choose another --partition ({others})"
            if others
            else "lower --nodes, no partition has so many"
        )
        raise MediError(f"--nodes {wanted}: the partition {chosen} has {count[chosen]}; {remedy}")


def partitions() -> list[str]:
    """The partitions that the cluster has; none where it does not say."""
    try:
        return sorted(set(_asked("sinfo", "-h", "-o", "%R").split()))
    except MediError:
        return []


# --- what has become of them ------------------------------------------------------------------------------------------


def queued(ledger: Ledger) -> dict[str, Queued]:
    """The tasks that wait or work now, by their number in Slurm."""
    ids = ",".join(one.id for one in ledger.jobs)
    text = _asked("squeue", "-h", "-a", "-r", "-j", ids, "-o", "%i|%T|%r|%N")
    rows = [line.split("|") for line in text.splitlines() if line.count("|") >= 3]
    return {number: Queued(state, nodes or reason) for number, state, reason, nodes, *_ in rows}


def explained(found: Queued) -> str:
    """The state of a task in the queue, and why it waits, in words."""
    if found.state != "PENDING":
        return f"{found.state.lower()} on {found.why}" if found.why != "None" else found.state.lower()
    reason = found.why.strip("()").partition(",")[0]
    return REASONS.get(reason, f"waits ({reason})")


def why_gone(id: str) -> str:
    """What Slurm still knows of a task that is not in the queue, such as "cancelled"; "" where it has forgotten it."""
    try:
        text = _asked("scontrol", "show", "job", id, "-o")
    except MediError:
        return ""
    state = re.search(r"JobState=(\S+)", text)
    return state[1].lower() if state else ""


def cancel(ledger: Ledger) -> int:
    """Cancel the jobs that wait or work; how many tasks these were."""
    found = queued(ledger)
    cancel_ids({number.partition("_")[0] for number in found})
    return len(found)


def cancel_ids(ids: Iterable[str]) -> None:
    """Cancel jobs by their numbers."""
    if wanted := sorted(ids):
        _asked("scancel", *wanted)


def _asked(*command: str) -> str:
    """What a command of Slurm prints; that it has forgotten a job is no error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise MediError(f"{command[0]} is not found; ask where your cluster's jobs are submitted") from error
    except subprocess.TimeoutExpired as error:
        raise MediError(f"{command[0]} does not answer; try again later") from error
    if done.returncode and "Invalid job id" not in done.stderr:
        raise MediError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}; try again later")
    return done.stdout


# --- on the node ------------------------------------------------------------------------------------------------------


def carry(command: Sequence[str], run: str, name: str) -> None:
    """On the node: call a command, keep how it ended, and put the job back into the queue where Slurm stopped it.

    A job that was cancelled stays so, and one that failed fails, with the exit code of its command. Of several nodes
    all do so, and the first one speaks for the job.
    """
    is_first = os.environ.get("SLURM_PROCID", "0") == "0"
    if is_first:
        note(Path(run), name)
    with noted() as heard:
        code = _ended(subprocess.Popen(_here(command, is_first)), heard)
    if code and heard.number is not None and _is_to_go_on():
        if is_first:
            print("stopped by Slurm before it was done; back to the queue, from where it goes on", flush=True)
            _asked("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
        time.sleep(60)  # until Slurm ends this job
    if is_first:
        note(Path(run), name, code)
    sys.exit(code)


def _here(command: Sequence[str], is_first: bool) -> list[str]:
    """The command as this node executes it; several nodes meet on the first one, each job at a port of its own."""
    if MEETING not in command:
        return list(command)
    first = _asked("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()[0]
    return meeting(command, first, PORT + int(os.environ["SLURM_JOB_ID"]) % PORTS, is_first)


def _ended(process: "subprocess.Popen[bytes]", heard: Signal) -> int:
    """The exit code of a command; where a signal came to the job alone, the command is told."""
    since = None
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            since = since or (time.monotonic() if heard.number is not None else None)
            if since is not None and time.monotonic() - since > PATIENCE:
                process.send_signal(signal.SIGTERM)
                since = float("inf")


def _is_to_go_on() -> bool:
    """Whether the job of this process is meant to run: it was stopped for its time limit, or for another job."""
    state = _asked("squeue", "-h", "-j", os.environ["SLURM_JOB_ID"], "-o", "%T").strip()
    return state == "RUNNING" and int(os.environ.get("SLURM_RESTART_COUNT", 0)) < MOST_RESTARTS
