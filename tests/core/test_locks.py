"""P15: two processes never work in one folder; what a killed one left behind is taken over."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medi.core import locks
from medi.core.errors import MediError

HOLD = """
import sys, time
from pathlib import Path
from medi.core.locks import locked
with locked(Path(sys.argv[1])):
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
    with locks.locked(tmp_path):
        found = locks.holder(tmp_path)
        assert found is not None
        assert found.pid == os.getpid()
    assert not list(tmp_path.iterdir())


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
