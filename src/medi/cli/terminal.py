"""What the verbs share on a terminal: the console, text that is safe to show, and the bars of long stages."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
LOG_WIDTH = 120  # of tables in a log
AS_WRITTEN: Any = {"highlight": False, "markup": False, "emoji": False}  # a class `[/b]` or `:x:` is no markup


class Log:
    """What is shown, with the time before each line, at the end of a file; a log that cannot be written is left out."""

    def __init__(self) -> None:
        self.path: Path | None = None

    def add(self, *shown: Any, **style: Any) -> None:
        """What a console is asked to print, as plain text."""
        if self.path is None:
            return
        plain = Console(file=StringIO(), width=LOG_WIDTH, no_color=True, **AS_WRITTEN)
        plain.print(*shown, **style)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        lines = plain.file.getvalue().splitlines()  # type: ignore[attr-defined]
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{now}  {line.rstrip()}\n" for line in lines)


class Screen(Console):
    """The terminal; what it prints goes to the log as well, where one is kept."""

    def print(self, *objects: Any, **style: Any) -> None:
        super().print(*objects, **style)
        log.add(*objects, **style)


log = Log()
console = Screen(**AS_WRITTEN)


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
    """Shows a run: a bar with rate and time left for each long stage, a line for each finished one.

    keep: the file in which all is kept that is shown from the first line on (Run makes its folder).
    """

    def __init__(self, keep: Path | None = None) -> None:
        self.keep = keep

    def line(self, text: str) -> None:
        self.open_log()
        console.print(text, markup=False, soft_wrap=True)

    def open_log(self) -> None:
        """Keep what is shown from now on, below the command that was typed."""
        if self.keep is not None and log.path != self.keep:
            log.path = self.keep
            log.add(shlex.join(["$", "medi", *sys.argv[1:]]).replace("'$'", "$", 1), markup=False, soft_wrap=True)

    @contextmanager
    def bars(self, *titles: str, unit: str = "images") -> Iterator["list[Advance]"]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            tasks = [progress.add_task(title, total=None) for title in titles]
            _under_way.clear()
            yield [partial(self._advance, progress, task, title, unit) for task, title in zip(tasks, titles)]
            _under_way.clear()  # not where it is interrupted

    @staticmethod
    def _advance(progress: Progress, task: TaskID, title: str, unit: str, count: int, total: int) -> None:
        progress.update(task, completed=count, total=total)
        _under_way[title] = (count, total, unit)


_under_way: dict[str, tuple[int, int, str]] = {}  # what the bars show: done, of how many of what


def stopped_at() -> str:
    """Where the work was that bars showed when it was interrupted; "" where none was under way."""
    reached = [f"{title} at {done:,} of {total:,} {unit}" for title, (done, total, unit) in _under_way.items()]
    return f"stopped {' and '.join(reached)}; the same command goes on where it was" if reached else ""
