"""Work that a person watches: it tells how far it is, and it ends where that person stops it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from torch import nn

Tell = Callable[[Any], None]
_MODEL = Lock()  # one job at a time has the processor and the models


class Stopped(Exception):
    """Raised within a job that its owner has stopped."""


@dataclass(frozen=True)
class Progress:
    """How far a job is, in steps of `what`."""

    count: int
    total: int
    what: str


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class Jobs:
    """The running job of each owner (a page in a browser); a new one ends the one before."""

    def __init__(self) -> None:
        self._running: dict[str, Event] = {}

    def start(self, owner: str) -> Event:
        """The stop of a new job."""
        self.stop(owner)
        self._running[owner] = Event()
        return self._running[owner]

    def stop(self, owner: str) -> None:
        if running := self._running.pop(owner, None):
            running.set()


def watch(work: Callable[[Tell], None], stop: Event) -> Iterator[Any]:
    """What `work(tell)` tells, as it comes, until it ends or fails, or `stop` is set: then its next `tell` ends it.

    Who no longer listens (closes this iterator) stops the work too.
    """
    told: SimpleQueue[Any] = SimpleQueue()

    def tell(item: Any) -> None:
        if stop.is_set():
            raise Stopped
        told.put(item)

    Thread(target=_run, args=(work, tell, told), daemon=True).start()
    try:
        while not isinstance(item := told.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()


def _run(work: Callable[[Tell], None], tell: Tell, told: "SimpleQueue[Any]") -> None:
    try:
        with _MODEL:
            work(tell)
        told.put(_End())
    except BaseException as error:  # whatever it is, the one who watches hears of it
        told.put(_End(error))


@contextmanager
def counted(network: nn.Module, total: int, what: str, tell: Tell) -> Iterator[None]:
    """Tell of every evaluation of a network within this block; so a job can end between two of them."""
    done = 0

    def tick(*_: Any) -> None:
        nonlocal done
        tell(Progress(done, total, what))
        done += 1

    handle = network.register_forward_pre_hook(tick)
    try:
        yield
    finally:
        handle.remove()
