"""One pool of processes: fresh ones, each with its share of the cores, none outliving its parent.

Two networks of this size train 1.4 times as fast on one core each as one after the other on two cores. Workers tell
results, progress and errors through a pipe of their own; what libraries print goes to a file that is shown if one dies.
"""

import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, starmap
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from types import ModuleType
from typing import Any

from threadpoolctl import threadpool_limits

from medi.core.errors import MediError
from medi.core.progress import Advance, Show
from medi.core.registry import extensions, load_extensions
from medi.core.stopping import Reached, Stopped, by_signal, ended_by_sigterm
from medi.core.threads import cores

SHOWN_EVERY = 0.2  # seconds between two messages of progress
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read when torch and BLAS are loaded
TRAINS = "medi.training.optimisers"
SHOWN = "app|cli|figures|report"  # rooms that no worker needs
_STARTING = threading.Lock()

Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function at the top of a module, and its arguments
Task = tuple[Callable[..., Any], tuple[Any, ...], Advance | None]


@dataclass(frozen=True)
class _Reached:
    count: int
    total: int


@dataclass(frozen=True)
class _Done:
    result: Any


@dataclass(frozen=True)
class _Failed:
    text: str
    by_user: bool  # a MediError


@dataclass(frozen=True)
class _Stopped:
    saved: Sequence[Reached]
    number: int


def side_by_side(calls: Mapping[str, Call], show: Show) -> None:
    """Call `function(*arguments, advance)` for every title: {"training cls": (train_model, (folder, "cls"))}.

    All at once on CPUs, one after another where there is a GPU to share, each in a fresh process. The first failure
    ends the others. A MediError comes through as it is; any other error is a RuntimeError with the worker's traceback.
    Ctrl-C and SIGTERM end in `Stopped`, which tells what the calls have saved.
    """
    titles, most = list(calls), cores()
    at_once = 1 if has_gpu() else min(len(calls), most)
    with ended_by_sigterm(), show.bars(*titles) as advances:
        for start in range(0, len(titles), at_once):
            group = [calls[title] for title in titles[start : start + at_once]]
            with Pool(len(group), threads=max(most // len(group), 1), apart=True) as pool:
                for _ in pool.each(group, advances[start : start + at_once]):
                    pass


def shared(calls: Mapping[str, Call], show: Show, workers: int) -> Iterator[Any]:
    """The results of calls as `side_by_side` takes them, as they come, by so many processes; each takes the next call
    when it has done one."""
    pool = Pool(workers, threads=max(cores() // workers, 1), apart=True)
    with ended_by_sigterm(), show.bars(*calls) as advances, pool:
        yield from pool.each(list(calls.values()), advances)


class Pool:
    """Processes that call functions of modules; one worker is this very process unless it is to be `apart`.

    threads: of each worker, for torch and BLAS; as the environment says where none are given. Functions are found by
    module and name, so they stand at the top of a module. The script that made the pool is not run again by workers:
    it needs no `if __name__ == "__main__":`. Extensions that are loaded here are loaded in every worker.
    """

    def __init__(self, workers: int, threads: int | None = None, apart: bool = False) -> None:
        if workers < 1:
            raise MediError(f"workers {workers}: at least one is needed")
        self.size, self.threads, self.apart = workers, threads, apart or workers > 1
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for worker in self._workers:  # all are told before the first is waited for
            worker.process.terminate()
        stopped = [*getattr(error, "saved", []), *(found for worker in self._workers for found in worker.end())]
        self._workers.clear()
        if isinstance(error, KeyboardInterrupt) and stopped:
            raise Stopped(stopped, getattr(error, "number", signal.SIGINT)) from None

    def map(
        self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], in_shares: bool = False
    ) -> Iterator[Any]:
        """The results of `function(*task)` as they come, in any order.

        in_shares: neighbours go to one worker, which may keep what they have in common; else the next that is idle
        takes the next task.
        """
        if not self.apart:
            return starmap(function, tasks)
        return self._results([(function, task, None) for task in tasks], self.size if in_shares else 1)

    def each(self, calls: Sequence[Call], advances: Sequence[Advance]) -> Iterator[Any]:
        """The results of `function(*arguments, advance)` as they come; every call tells its own `advance`."""
        if not self.apart:
            return (function(*arguments, advance) for (function, arguments), advance in zip(calls, advances))
        return self._results([(*call, advance) for call, advance in zip(calls, advances)])

    def _results(self, tasks: Sequence[Task], number: int = 1) -> Iterator[Any]:
        """Give every idle worker a task, and another when it is done. number: of shares."""
        self._start(min(self.size, len(tasks)))
        shares, busy = _shares(tasks, number), dict[Connection, tuple[_Worker, Advance | None]]()
        idle = list(self._workers)
        while True:
            for worker in list(idle):
                if (task := _next(shares, self._workers.index(worker))) is not None:
                    function, arguments, advance = task
                    worker.pipe.send((function, arguments, advance is not None))
                    busy[worker.pipe] = (worker, advance)
                    idle.remove(worker)
            if not busy:
                return
            failed: RuntimeError | MediError | None = None
            for pipe in wait(list(busy)):
                worker, advance = busy[pipe]  # type: ignore[index]
                try:
                    message = worker.receive()
                except (RuntimeError, MediError) as error:
                    failed = failed or error  # what others have done by now comes first
                    continue
                if isinstance(message, _Reached):
                    assert advance is not None
                    advance(message.count, message.total)
                else:
                    idle.append(busy.pop(worker.pipe)[0])
                    yield message.result
            if failed is not None:
                raise failed

    def _start(self, number: int) -> None:
        """Bring the workers up to a number."""
        context, environment = _context(), dict(os.environ)
        environment |= dict.fromkeys(THREADS, str(self.threads)) if self.threads else {}
        with _STARTING, _without_main():
            while len(self._workers) < number:
                self._workers.append(_Worker(context, environment))


def _shares(tasks: Sequence[Task], number: int) -> list[deque[Task]]:
    """Neighbours together, as many in each as can be."""
    ends = [len(tasks) * i // number for i in range(number + 1)]
    return [deque(tasks[start:end]) for start, end in pairwise(ends)]


def _next(shares: Sequence[deque[Task]], number: int) -> Task | None:
    """The next task of a worker: of its own share from the front; of the longest other one from the back."""
    if own := shares[number % len(shares)]:
        return own.popleft()
    longest = max(shares, key=len)
    return longest.pop() if longest else None


class _Worker:
    """A process at the other end of a pipe."""

    def __init__(self, context: SpawnContext | ForkServerContext, environment: dict[str, str]) -> None:
        handle, name = tempfile.mkstemp(prefix="medi-worker-", suffix=".log")
        os.close(handle)
        self.printed = Path(name)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, name, extensions(), environment))
        self.process.start()
        theirs.close()

    def receive(self) -> _Reached | _Done:
        """The next message; the error of the call as an exception, and one of its own where the process died."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            text = self.printed.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
            code = self.process.exitcode or 0
            why = by_signal(code) if code < 0 else f"died (exit code {code}); was memory short?"
            remedy = " run it again, with fewer workers where you can choose" if why.endswith("?") else "; run it again"
            raise RuntimeError(f"a worker {why}{remedy}. {text}".strip()) from None
        if isinstance(message, _Failed):
            raise MediError(message.text) if message.by_user else RuntimeError(message.text)
        if isinstance(message, _Stopped):
            raise Stopped(message.saved, message.number)
        return message

    def end(self) -> Sequence[Reached]:
        """Wait for the end of a process that was told to end; what its work has saved."""
        saved = self._last_words()
        self.process.join()
        self.pipe.close()
        self.printed.unlink(missing_ok=True)
        return saved

    def _last_words(self) -> Sequence[Reached]:
        """What a worker has saved that was stopped, as it says before it ends. The pipe alone tells of its end where
        the server that forked it was stopped as well."""
        with suppress(EOFError, OSError):
            while True:
                if isinstance(message := self.pipe.recv(), _Stopped):
                    return message.saved
        return ()


def _context() -> SpawnContext | ForkServerContext:
    """Processes are forked from a server that imports, once, what this process has imported of medi and workers may
    need: torch takes seconds. The server computes nothing, so that forking is safe. Beside a GPU every process starts
    from nothing.
    """
    torch = sys.modules.get("torch")
    if sys.platform != "linux" or (torch is not None and torch.cuda.is_available()):
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    ours = rf"medi(?!\.(?:{SHOWN})\b)(\.\w*[a-z])+"  # without __main__
    needed = [name for name in sys.modules if re.fullmatch(ours, name)]
    if TRAINS in needed:
        needed.append("torch._dynamo")  # every optimiser loads it, in three seconds
    server.set_forkserver_preload(needed)
    return server


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start within it do not import the user's script, which would run it once more."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, printed: str, known: Sequence[str], environment: dict[str, str]) -> None:
    """The worker: call what comes through the pipe until it is closed."""
    _follow_parent()
    os.environ.clear()
    os.environ.update(environment)
    _limit_threads(environment.get(THREADS[0], ""))
    with open(printed, "ab", buffering=0) as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    message: _Done | _Failed | _Stopped
    while True:
        try:
            load_extensions(known)
            function, arguments, tells = pipe.recv()
            message = _Done(function(*arguments, _Teller(pipe)) if tells else function(*arguments))
        except (EOFError, ConnectionError):
            return
        except Stopped as stopped:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever sent it to all may send it twice
            pipe.send(_Stopped(stopped.saved, stopped.number))
            return
        except MediError as error:
            message = _Failed(str(error), by_user=True)
        except Exception:
            message = _Failed(traceback.format_exc().strip(), by_user=False)
        pipe.send(message)


def _limit_threads(number: str) -> None:
    """Libraries that are loaded already have read another environment."""
    if number.isdigit() and "numpy" in sys.modules:
        threadpool_limits(int(number))
    if number.isdigit() and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(number))


class _Teller:
    """An Advance that sends what is reached through a pipe, at most a few times a second."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.last = pipe, 0.0

    def __call__(self, count: int, total: int) -> None:
        if count == total or time.monotonic() - self.last > SHOWN_EVERY:
            self.last = time.monotonic()
            self.pipe.send(_Reached(count, total))


def _follow_parent() -> None:
    """Ctrl-C is the parent's, who ends the workers; a worker whose parent was killed ends by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


class Summed:
    """A show whose bars are one: what all workers together have reached goes to `advance`."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def line(self, text: str) -> None:
        pass

    def bars(self, *titles: str) -> AbstractContextManager[list[Advance]]:
        self.reached = [(0, 0) for _ in titles]
        return nullcontext([partial(self._advance, i) for i in range(len(titles))])

    def _advance(self, worker: int, count: int, total: int) -> None:
        self.reached[worker] = (count, total)
        counts, totals = zip(*self.reached)
        self.advance(sum(counts), sum(totals))


def has_gpu() -> bool:
    """Whether there is a GPU, which processes would have to share."""
    import torch

    return torch.cuda.is_available()
