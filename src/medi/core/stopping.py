"""Ctrl-C and SIGTERM: long work notes the signal, keeps what it has at the next good moment, and ends (P12)."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

Reached = tuple[int, int]  # images done, and of how many


class Stopped(KeyboardInterrupt):
    """Work that a signal stopped and that goes on by the same call.

    saved: what each piece of work has kept; empty where nothing is counted. number: of the signal.

    >>> print(Stopped([(8000, 30000)]))
    stopped; last saved at 8,000 of 30,000 images (27 %); the same command continues
    """

    def __init__(self, saved: Sequence[Reached] = (), number: int = signal.SIGINT) -> None:
        self.saved, self.number = list(saved), int(number)
        super().__init__(self.saved, self.number)

    def __str__(self) -> str:
        if not self.saved:
            return "interrupted; the same command goes on where it was"
        counts, totals = zip(*self.saved)
        reached = " and ".join(f"{count:,}" for count in dict.fromkeys(counts))
        total = " and ".join(f"{total:,}" for total in dict.fromkeys(totals))
        percent = 100 * sum(counts) / max(sum(totals), 1)
        return f"stopped; last saved at {reached} of {total} images ({percent:.0f} %); the same command continues"


def by_signal(code: int) -> str:
    """What is said of a process that a signal ended. code: its exit code, the number of the signal below zero.

    >>> by_signal(-15), by_signal(-9)
    ('was ended by signal 15 (SIGTERM)', 'was killed by signal 9; was memory short?')
    """
    if code == -signal.SIGKILL:
        return f"was killed by signal {-code}; was memory short?"
    return f"was ended by signal {-code} ({signal.Signals(-code).name})"


class Signal:
    """Whether a signal has come, and which."""

    number: int | None = None


@contextmanager
def noted() -> Iterator[Signal]:
    """Within it the first SIGINT or SIGTERM is noted and does nothing else; a second Ctrl-C ends at once.

    Only the main thread of a process hears signals; elsewhere nothing is ever noted. A worker leaves Ctrl-C to its
    parent, as before.
    """
    found = Signal()

    def note(number: int, frame: FrameType | None) -> None:
        if found.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        found.number = found.number or number

    heard = [signal.SIGINT, signal.SIGTERM] if threading.current_thread() is threading.main_thread() else []
    before = {n: signal.getsignal(n) for n in heard}
    before = {n: handler for n, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, note)
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM is an exception, as Ctrl-C is, where nobody else has asked to hear it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number=number)
