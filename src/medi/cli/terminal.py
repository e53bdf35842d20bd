"""What the verbs share on a terminal: the console, text that is safe to show, and the bars of long stages."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from medi.core.progress import Advance

WARNING = "warning: "
console = Console(highlight=False)


def printable(text: str) -> str:
    """Names from metadata must not steer the terminal (P11): control characters are shown as their escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """A line as it is, however long."""
    console.print(printable(text), markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """A line in red."""
    console.print(Text(f"{WARNING}{printable(text)}", style="bold red"), soft_wrap=True)


class Rate(ProgressColumn):
    """Images, or what else is counted, per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{task.speed:,.0f} {self.unit}/s")


class Terminal:
    """Shows a run: a bar with rate and time left for each long stage, a line for each finished one."""

    def line(self, text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bars(self, *titles: str, unit: str = "images") -> Iterator["list[Advance]"]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            tasks = [progress.add_task(title, total=None) for title in titles]
            yield [partial(self._advance, progress, task) for task in tasks]

    @staticmethod
    def _advance(progress: Progress, task: TaskID, count: int, total: int) -> None:
        progress.update(task, completed=count, total=total)
