"""The pool of processes: what workers tell, print and break, and that none outlives its parent (P12)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medi.core.errors import MediError
from medi.core.processes import Call, Pool, Summed, _next, _shares, side_by_side
from medi.core.progress import Advance, Silent

WORKERS = '''
import os, sys, time
from pathlib import Path
from medi.core.errors import MediError

def square(n):
    return n * n

def threads(n):
    import torch
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return [os.environ[name] for name in names], torch.get_num_threads()

def own(n):
    return os.getpid(), n

def environment(name):
    return os.environ.get(name)

def chatty(lines, advance):
    """As a library that greets its user does."""
    print("hello from a library")
    for _ in range(lines):
        print("x" * 100)
        print("a warning", file=sys.stderr)
    os.write(1, b"and from C\\n")
    advance(1, 1)

def wrong(advance):
    raise MediError("row 3: no such site; correct it")

def after(seconds, text):
    time.sleep(seconds)
    return wrong(None) if text else seconds

def broken(advance):
    raise ValueError("a mistake of ours")

def dead(advance):
    print("Killed: no memory left")
    sys.stdout.flush()
    os._exit(9)

def registered(name):
    from medi.core.registry import registry
    return registry("metric")[name]()

def saves(count, path, advance):
    from medi.core.stopping import Stopped, noted
    with noted() as signal:
        Path(path).write_text("begun")
        while signal.number is None:
            time.sleep(0.01)
        time.sleep(0.2)  # it is saved while a second signal changes nothing, as in training
        raise Stopped([(count, 8000)], signal.number)

def waits(path, advance):
    Path(path + ".part").write_text(str(os.getpid()))
    os.replace(path + ".part", path)  # whoever reads it while this process is ended reads all of it
    time.sleep(600)
'''


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of functions that workers find by its name."""
    (tmp_path / "some_workers.py").write_text(WORKERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "some_workers", raising=False)
    import some_workers

    return some_workers


class Bars(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def bars(self, *titles: str):
        from contextlib import nullcontext

        return nullcontext([lambda count, total: self.told.append((count, total)) for _ in titles])


@pytest.mark.slow
def test_what_a_library_prints_disturbs_nothing(workers, capfd: pytest.CaptureFixture[str]) -> None:
    """A print was read as progress (ValueError), and 4,000 lines on standard error filled its pipe for good."""
    shown, started = Bars(), time.monotonic()
    side_by_side({"a": (workers.chatty, (4000,)), "b": (workers.chatty, (1,))}, shown)
    assert shown.told == [(1, 1), (1, 1)]
    assert time.monotonic() - started < 60
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_errors_come_through_and_end_the_others(workers, tmp_path: Path) -> None:
    def failing(function: Callable[..., None]) -> dict[str, Call]:
        return {"bad": (function, ()), "good": (workers.waits, (str(tmp_path / "pid"),))}

    with pytest.raises(MediError, match=r"^row 3: no such site; correct it$"):
        side_by_side(failing(workers.wrong), Silent())
    with pytest.raises(RuntimeError, match=r"(?s)some_workers\.py.*ValueError: a mistake of ours"):
        side_by_side(failing(workers.broken), Silent())
    with pytest.raises(RuntimeError, match=r"a worker died \(exit code 9\); was memory short\?.*no memory left"):
        side_by_side(failing(workers.dead), Silent())
    if (tmp_path / "pid").exists():
        assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [False, True])
def test_a_signal_reaches_all_workers_and_they_tell_what_they_saved_p12(
    workers, tmp_path: Path, number: int, everyone: bool
) -> None:
    """A terminal sends Ctrl-C, and a scheduler SIGTERM, to the parent or to the workers as well."""
    (tmp_path / "script.py").write_text(
        "import some_workers\nfrom medi.core.processes import side_by_side\nfrom medi.core.progress import Silent\n"
        "from medi.core.stopping import Stopped\n"
        f"calls = {{c: (some_workers.saves, (n, {str(tmp_path)!r} + '/' + c)) for c, n in (('a', 800), ('b', 900))}}\n"
        "try: side_by_side(calls, Silent())\nexcept Stopped as stopped: print(stopped, stopped.number)\n"
    )
    command = [sys.executable, tmp_path / "script.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        wait_until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
        (os.killpg if everyone else os.kill)(parent.pid, number)
        told = parent.communicate(timeout=60)[0]
    saved = "stopped; last saved at 800 and 900 of 8,000 images (11 %); the same command continues"
    assert told == f"{saved} {int(number)}\n"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
def test_results_come_as_they_are_made_and_no_task_is_lost(workers) -> None:
    with Pool(2) as pool:
        assert sorted(pool.map(workers.square, [(n,) for n in range(20)])) == [n * n for n in range(20)]
        assert sorted(pool.map(workers.square, [(3,)])) == [9], "the same workers do more"
    with Pool(1) as pool:
        assert list(pool.map(workers.square, [(2,), (3,)])) == [4, 9]
    with pytest.raises(MediError, match="workers 0: at least one is needed"):
        Pool(0)


@pytest.mark.slow
def test_what_others_have_done_comes_before_an_error(workers) -> None:
    """A call fails, and another ends, before anybody looks."""
    found: list[float] = []

    def look(pool: Pool) -> None:
        for result in pool.map(workers.after, [(0.0, ""), (0.1, "wrong"), (0.1, "")]):
            found.append(result)
            time.sleep(1)

    with Pool(3) as pool, pytest.raises(MediError, match="row 3"):
        look(pool)
    assert found == [0.0, 0.1]


@pytest.mark.slow
def test_neighbours_go_to_one_worker_which_then_helps_the_others(workers) -> None:
    with Pool(2) as pool:
        found = list(pool.map(workers.own, [(n,) for n in range(20)], in_shares=True))
        ahead = list(pool.map(workers.own, [(3,)], in_shares=True))
    assert sorted(n for _, n in found) == list(range(20))
    first = {pid: next(n for other, n in found if other == pid) for pid, _ in found}
    assert set(first.values()) == {0, 10}, "each begins with its own half"
    assert [n for _, n in ahead] == [3], "fewer tasks than workers"
    shares = _shares([(workers.own, (n,), None) for n in range(5)], 2)
    taken = [task[1][0] for _ in range(5) if (task := _next(shares, 0)) is not None]
    assert taken == [0, 1, 4, 3, 2], "its own share, then the other from its end"
    assert _next(shares, 1) is None


@pytest.mark.slow
def test_threads_are_set_before_torch_is_loaded(workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Pool(1, threads=2, apart=True) as pool:
        assert list(pool.map(workers.threads, [(0,)])) == [(["2"] * 3, 2)]
    assert os.environ["OMP_NUM_THREADS"] == "1", "this process keeps its own"


@pytest.mark.slow
def test_workers_see_the_environment_of_the_moment(workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their server may have been started long before."""
    for value in ("one", "two"):
        monkeypatch.setenv("MEDI_TEST", value)
        with Pool(1, apart=True) as pool:
            assert list(pool.map(workers.environment, [("MEDI_TEST",)])) == [value]


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["", 'if __name__ == "__main__":\n    '])
def test_a_script_needs_no_main_guard(workers, tmp_path: Path, guard: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import some_workers\nfrom medi.core.processes import Pool\nprint('once')\n"
        f"{guard}with Pool(2) as pool: print(sum(pool.map(some_workers.square, [(n,) for n in range(4)])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("once\n14\n", 0), done.stderr


@pytest.mark.slow
def test_a_killed_parent_leaves_no_worker_behind_p12(workers, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    (tmp_path / "script.py").write_text(
        "import some_workers\nfrom medi.core.processes import side_by_side\nfrom medi.core.progress import Silent\n"
        f"side_by_side({{'a': (some_workers.waits, ({str(pid)!r},))}}, Silent())\n"
    )
    with subprocess.Popen([sys.executable, tmp_path / "script.py"]) as parent:
        wait_until(pid.exists)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(int(pid.read_text())))


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.slow
def test_workers_know_the_extensions_of_their_parent(workers, tmp_path: Path) -> None:
    """What a file registers here is known to every worker."""
    from medi.core.registry import load_extensions

    (tmp_path / "mine.py").write_text(
        "import os\nfrom medi import register\n@register('metric', 'pid-of-test')\ndef pid(): return os.getpid()\n"
    )
    load_extensions([str(tmp_path / "mine.py")])
    with Pool(1, apart=True) as pool:
        (found,) = pool.map(workers.registered, [("pid-of-test",)])
    assert found != os.getpid()


def test_a_summed_show_adds_up_its_workers() -> None:
    shown: list[tuple[int, int]] = []
    advances: list[Advance]
    with Summed(lambda count, total: shown.append((count, total))).bars("0", "1") as advances:
        first, second = advances
        first(2, 10)
        second(3, 6)
        first(10, 10)
    assert shown == [(2, 10), (5, 16), (13, 16)]
