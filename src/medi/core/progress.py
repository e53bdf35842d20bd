"""Progress of long work: what a person, a notebook or a parent process sees of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

Advance = Callable[[int, int], None]


@runtime_checkable
class Show(Protocol):
    """What a person sees of a run: a line per finished stage and progress bars for long ones."""

    def line(self, text: str) -> None: ...

    def bars(self, *titles: str) -> AbstractContextManager[list[Advance]]:
        """A bar per title; each function that it gives takes the count reached and the total."""
        ...


class Silent:
    """Shows nothing."""

    def line(self, text: str) -> None:
        pass

    def bars(self, *titles: str) -> AbstractContextManager[list[Advance]]:
        return nullcontext([lambda count, total: None for _ in titles])
