"""P15: two processes never work in one folder; what a killed one left behind is taken over."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import Medi, refused
from medi.cohort.packing import pack
from medi.cohort.table import Cohort
from medi.core import files, locks
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.sampling.generate import generate
from medi.sampling.sampler import SamplerSettings
from medi.study.study import run
from medi.training.loop import train
from medi.training.recipe import Recipe

HOLD = """
import sys, time
from pathlib import Path
from medi.core.locks import locked
with locked(Path(sys.argv[1]), *sys.argv[2:]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path: Path, other: subprocess.Popen) -> None:
    with pytest.raises(MediError, match=f"in use by process {other.pid} on "), locks.locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [locks.NAME]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, other: subprocess.Popen) -> None:
    other.kill()
    other.wait()
    (tmp_path / "tables").mkdir()
    left = tmp_path / "tables" / files.unfinished(Path("utility.parquet"), other.pid).name
    left.write_text("half")
    with locks.locked(tmp_path):
        assert not left.exists(), "what it had not finished is gone"
        found = locks.holder(tmp_path)
        assert found is not None
        assert found.pid == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="no way to see a process end without waiting for it")
def test_a_process_that_ended_and_was_not_waited_for_holds_nothing(tmp_path: Path, other: subprocess.Popen) -> None:
    """In a container whose first process waits for none, those of a killed run stay in the list of processes."""
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert locks.holder(tmp_path) is None
    with locks.locked(tmp_path):
        pass


def test_one_process_may_hold_a_folder_twice(tmp_path: Path) -> None:
    with locks.locked(tmp_path), locks.locked(tmp_path / "." / ""):
        assert locks.holder(tmp_path) is not None
    assert locks.holder(tmp_path) is None


def test_a_number_that_another_process_has_by_now_is_not_the_holder(tmp_path: Path) -> None:
    found = {"host": locks.Holder.of_this_process().host, "pid": os.getpid(), "born": "1", "command": "medi train"}
    (tmp_path / locks.NAME).write_text(json.dumps(found))
    assert locks.holder(tmp_path) is None
    with locks.locked(tmp_path):
        pass


def test_a_lock_of_another_machine_counts_while_it_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / locks.NAME
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1", "command": "medi run"}))
    with pytest.raises(MediError, match="process 1 on elsewhere"), locks.locked(tmp_path):
        pass
    past = time.time() - locks.SILENT - 1
    os.utime(path, (past, past))
    with locks.locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"host": 1}'])
def test_a_broken_lock_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / locks.NAME).write_text(content)
    with locks.locked(tmp_path):
        pass


def test_a_file_in_place_of_the_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(MediError, match="out: cannot be written"), locks.locked(tmp_path / "out"):
        pass


def test_parts_are_held_side_by_side_and_the_whole_alone(tmp_path: Path, other: subprocess.Popen) -> None:
    with pytest.raises(MediError, match="is in use by process"), locks.locked(tmp_path, "0-of-2"):
        pass
    command = [sys.executable, "-c", HOLD, str(tmp_path / "shards"), "0-of-2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as part:
        assert part.stdout is not None
        part.stdout.readline()
        with locks.locked(tmp_path / "shards", "1-of-2"):
            assert not locks.is_empty(tmp_path)
            assert locks.is_empty(tmp_path / "shards"), "locks are not content"
        for held in ("0-of-2", ""):
            with pytest.raises(MediError, match=f"process {part.pid}"), locks.locked(tmp_path / "shards", held):
                pass
        part.kill()


def test_a_part_and_the_whole_that_come_at_the_same_moment_do_not_both_work(
    tmp_path: Path, other: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one holds a folder already; its lock appears here when this process has looked and takes its own."""
    (tmp_path / "shards").mkdir()
    take = locks._take

    def at_the_same_moment(lock: Path) -> None:
        (tmp_path / "shards" / locks.NAME).write_text((tmp_path / locks.NAME).read_text())
        take(lock)

    monkeypatch.setattr(locks, "_take", at_the_same_moment)
    with pytest.raises(MediError, match=f"process {other.pid}"), locks.locked(tmp_path / "shards", "0-of-2"):
        pass
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [locks.NAME]


@pytest.mark.parametrize("patience", [60.0, 0.0])
def test_a_lock_that_is_listed_and_cannot_be_opened_yet_counts(
    tmp_path: Path, other: subprocess.Popen, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """A node of a network mount remembers for a while that there was none: it waits, and after that it refuses."""
    hidden, exists, read = [3], Path.exists, locks._read

    def seen(path: Path) -> bool:
        hidden[0] -= path.name == locks.NAME
        return exists(path) and hidden[0] < 0

    monkeypatch.setattr(Path, "exists", seen)
    monkeypatch.setattr(locks, "_read", lambda path: read(path) if hidden[0] < 0 else None)
    monkeypatch.setattr(locks, "UNSEEN", patience)
    monkeypatch.setattr(locks, "PAUSE", 0.0)
    who = f"process {other.pid} on " if patience else "another process"
    with pytest.raises(MediError, match=f"is in use by {who}"), locks.locked(tmp_path, "0-of-2"):
        pass


def stale() -> str:
    """The lock of a process of this machine that is gone."""
    return json.dumps(vars(locks.Holder.of_this_process()) | {"pid": 2**22 + 1})


def test_of_two_that_take_over_one_lock_one_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one sees the same stale lock while the first one clears it."""
    (tmp_path / locks.NAME).write_text(stale())
    clear, second = locks._clear_after, []

    def slowly(lock: Path) -> None:
        second.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        limit = time.monotonic() + 60
        while not any(path.suffix == f".{second[0].pid}" for path in tmp_path.iterdir()):
            if second[0].poll() is not None:  # its own file was there for less than a look, and it has its answer
                break
            assert time.monotonic() < limit
            time.sleep(0.001)
        clear(lock)

    monkeypatch.setattr(locks, "_clear_after", slowly)
    refusal = ""
    try:
        with locks.locked(tmp_path):
            held, said = second[0].communicate(timeout=60)
    except MediError as error:
        refusal = str(error)
    if refusal:  # the second one was faster: it has the lock, and will say so
        assert second[0].stdout.readline() == "held\n"
        second[0].kill()
        second[0].wait()
        assert f"in use by process {second[0].pid}" in refusal
        return
    assert held == ""
    assert f"in use by process {os.getpid()}" in said
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_cleared_by_a_killed_process_can_be_taken_over(tmp_path: Path) -> None:
    for name in (locks.NAME, f"{locks.NAME}.turn"):
        (tmp_path / name).write_text(stale())
    with locks.locked(tmp_path):
        assert locks.holder(tmp_path) == locks.Holder.of_this_process()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_another_machine_took_over_is_not_given_back(tmp_path: Path) -> None:
    """This process slept for more than ten minutes."""
    with locks.locked(tmp_path):
        other = json.dumps(vars(locks.Holder.of_this_process()) | {"host": "another"})
        (tmp_path / locks.NAME).write_text(other)
        os.utime(tmp_path / locks.NAME, (0, 0))
        locks.renew()
        assert (tmp_path / locks.NAME).stat().st_mtime == 0
    assert (tmp_path / locks.NAME).read_text() == other


def test_a_link_whose_answer_was_lost_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS sends the request again, and the second answer is that there is a file of this name."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    with locks.locked(tmp_path):
        assert locks.holder(tmp_path) == locks.Holder.of_this_process()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_made_for_nothing_is_gone(tmp_path: Path) -> None:
    with pytest.raises(MediError, match="no"), locks.locked(tmp_path / "new"):
        raise MediError("no")
    assert not (tmp_path / "new").exists()


VERBS = {
    "audit": ("x.csv",),
    "holdout": ("x.csv",),
    "plan": ("h",),
    "pack": ("x.csv", "--size", 8),
    "train": ("p",),
    "fidelity": ("p", "a=b"),
    "utility": ("p", "a=b"),
    "report": ("--real", "p"),
    "export": ("m",),
    "run": ("quick",),
    "demo": (),
    "adapt": ("m", "p", "--name", "new"),
    "stress": ("c.pt", "p", "--model", "m"),
}


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_that_writes_refuses_a_folder_in_use_p15(
    medi: Medi, tmp_path: Path, other: subprocess.Popen, name: str
) -> None:
    """Before, two packs, a train and a train --cls, or two seeds of run mixed their files silently."""
    refused(medi(name, *VERBS[name], "--out", tmp_path), f"is in use by process {other.pid} on ", "wait until it ends")
    assert [path.name for path in tmp_path.iterdir()] == [locks.NAME]


@pytest.mark.slow
def test_shards_refuse_only_their_own_part_p15(
    cohort: Cohort, tiny: NetworkSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards work in one folder at once; the same one twice is refused, in the library too."""
    denoiser = Denoiser(tiny, cohort.schema)
    model = tmp_path / "model.safetensors"
    save_model(model, denoiser, Checkpoint.of(denoiser))
    rows = cohort.table.head(6).assign(noise_id=[f"{i}" for i in range(6)])
    arguments = (model, rows, tmp_path / "made", 0, SamplerSettings(steps=1, batch=2))
    command = [sys.executable, "-c", HOLD, str(tmp_path / "made"), "1-of-2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as part:
        assert part.stdout is not None
        part.stdout.readline()
        assert generate(*arguments, shard=(0, 2)) is None
        with pytest.raises(MediError, match=f"process {part.pid}"):
            generate(*arguments, shard=(1, 2))
        part.kill()
    assert len(generate(*arguments, shard=(1, 2)) or ()) == 6, "the lock of a killed one is taken over"


@pytest.mark.parametrize("call", ["train", "pack", "run", "save"])
def test_the_library_refuses_a_folder_in_use_p15(
    cohort: Cohort, tiny: NetworkSettings, tmp_path: Path, other: subprocess.Popen, call: str
) -> None:
    recipe = Recipe(images=4, batch=4, save_every=4)
    calls = {
        "train": lambda: train(cohort, tmp_path, tiny, recipe, cohort.schema, 0),
        "pack": lambda: pack(cohort, tmp_path, tmp_path, 8),
        "run": lambda: run("quick", out=tmp_path),
        "save": lambda: cohort.plan(to=2).save(tmp_path),
    }
    with pytest.raises(MediError, match=f"is in use by process {other.pid} on "):
        calls[call]()


def test_locks_of_killed_shards_are_cleared_by_whoever_comes_next(tmp_path: Path) -> None:
    gone = {"host": locks.Holder.of_this_process().host, "pid": 2**22 + 1, "born": "1", "command": "medi sample"}
    for name in ("0-of-2", "1-of-2"):
        (tmp_path / f"{locks.NAME}-{name}").write_text(json.dumps(gone))
    with locks.locked(tmp_path, "0-of-1"), locks.locked(tmp_path, "1-of-3"):
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == [f"{locks.NAME}-0-of-1", f"{locks.NAME}-1-of-3"], "those that are held stay"
    assert not list(tmp_path.iterdir())
