"""Progress of long work: what a person, a notebook or a parent process sees of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

Advance = Callable[[int, int], None]


@runtime_checkable
class Show(Protocol):
    """What a person sees of a run: a line per finished stage and progress bars for long ones."""

    def line(self, text: str) -> None: ...

    def bars(self, *titles: str) -> AbstractContextManager[list[Advance]]:
        """A bar per title; each function that it gives takes the count reached and the total."""
        ...


def unheard(count: int, total: int) -> None:
    """An `Advance` that shows nothing."""


@dataclass
class Tally:
    """Adds up the parts of one piece of work for one bar.

    >>> tally = Tally(lambda count, total: print(count, total), 10)
    >>> first, second = tally.part(), tally.add
    >>> first(4, 4)
    4 10
    >>> second(3)
    7 10
    """

    advance: Advance
    total: int
    done: int = 0

    def add(self, more: int) -> None:
        """So many more are done."""
        self.done += more
        self.advance(self.done, self.total)

    def part(self) -> Advance:
        """An `Advance` for a part that begins where the work is now."""
        return partial(self._reach, self.done)

    def _reach(self, start: int, count: int, total: int) -> None:
        self.add(start + count - self.done)


class Silent:
    """Shows nothing."""

    def line(self, text: str) -> None:
        pass

    def bars(self, *titles: str) -> AbstractContextManager[list[Advance]]:
        return nullcontext([unheard for _ in titles])
