"""Work side by side: a process per task, each with its share of the cores, none outliving its parent.

Two networks of this size train 1.4 times as fast on one core each as one after the other on two cores.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module

from medi.core.errors import MediError
from medi.core.progress import Advance, Show

SHOWN_EVERY = 0.2  # seconds between two messages of progress


def side_by_side(calls: Mapping[str, Sequence[str]], show: Show) -> None:
    """Call `function(*arguments, advance)` for every title: {"training cls": ["medi.study.study:train_model",
    "run", "cls"]}.

    Arguments are text. All at once on CPUs, one after another where there is a GPU to share. The first failure ends
    the others; a MediError comes through as it is.
    """
    at_once = 1 if _has_gpu() else min(len(calls), os.cpu_count() or 1)
    titles = list(calls)
    with show.bars(*titles) as advances:
        for start in range(0, len(titles), at_once):
            group = titles[start : start + at_once]
            _run([calls[title] for title in group], advances[start : start + at_once])


class Summed:
    """A show whose bars are one: what all workers together have reached goes to `advance`."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.lock = advance, threading.Lock()

    def line(self, text: str) -> None:
        pass

    def bars(self, *titles: str) -> AbstractContextManager[list[Advance]]:
        self.reached = [(0, 0) for _ in titles]
        return nullcontext([partial(self._advance, i) for i in range(len(titles))])

    def _advance(self, worker: int, count: int, total: int) -> None:
        with self.lock:
            self.reached[worker] = (count, total)
            counts, totals = zip(*self.reached)
            self.advance(sum(counts), sum(totals))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _run(calls: Sequence[Sequence[str]], advances: Sequence[Advance]) -> None:
    threads = str(max((os.cpu_count() or 1) // len(calls), 1))
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    pipe = subprocess.PIPE
    commands = [[sys.executable, "-m", "medi.core.processes", *call] for call in calls]
    workers = [subprocess.Popen(c, stdout=pipe, stderr=pipe, text=True, env=environment) for c in commands]
    try:
        listeners = [_listen(worker.stdout, advance) for worker, advance in zip(workers, advances)]
        errors = [_collect(worker.stderr) for worker in workers]
        while any(worker.poll() is None for worker in workers) and not any(worker.poll() for worker in workers):
            time.sleep(0.05)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    for thread in listeners:
        thread.join()
    _raise_first([(worker.returncode, error()) for worker, error in zip(workers, errors)])


def _raise_first(ends: Sequence[tuple[int, str]]) -> None:
    """Raise for the worker that failed of itself; the others were ended (SIGTERM) because of it."""
    for code, error in ends:
        if code == 2:
            raise MediError(error)
        if code not in (0, -signal.SIGTERM):
            raise RuntimeError(error or f"a worker was ended from outside (exit code {code}); was memory short?")


def _listen(stream: Iterable[str] | None, advance: Advance) -> threading.Thread:
    """Pass on "count total" lines until the worker closes its output."""
    assert stream is not None

    def work() -> None:
        for line in stream:
            count, total = line.split()
            advance(int(count), int(total))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _collect(stream: Iterable[str] | None) -> Callable[[], str]:
    """Read a stream to its end beside the main thread; the function it returns waits for the text."""
    assert stream is not None
    text: list[str] = []
    thread = threading.Thread(target=lambda: text.extend(stream), daemon=True)
    thread.start()

    def result() -> str:
        thread.join()
        return "".join(text).strip()

    return result


def main(target: str, *arguments: str) -> None:
    """The worker: progress goes to standard output, an error to standard error; a lost parent ends it."""
    module, function = target.split(":")
    last = 0.0

    def advance(count: int, total: int) -> None:
        nonlocal last
        if count == total or time.monotonic() - last > SHOWN_EVERY:
            last = time.monotonic()
            print(count, total, flush=True)

    try:
        getattr(import_module(module), function)(*arguments, advance)
    except MediError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(130)


if __name__ == "__main__":
    main(*sys.argv[1:])
