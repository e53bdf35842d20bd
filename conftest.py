"""What every test has: shapes are checked, invariants are markers, files with slow tests come first.

jaxtyping's annotations are enforced on the whole package but one module, whose small steps would take three times as
long; its own test enforces them there (tests/evaluation/classify/test_logistic.py). A test says in its docstring or at
the end of its name which invariants it guards (P3, _p3; tests/invariants.py), and has a marker for each:
`pytest -m p3`. A doctest runs in an empty folder.
"""

import gc
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest import runner

gc.disable()  # while tests are collected, nothing that is made becomes garbage: a third of the time

collect_ignore = ["tests/mount/delayed.py"]  # a program without examples; to import it takes FUSE
sys.path.insert(0, str(Path(__file__).parent / "tests"))
import medi.evaluation.classify.logistic  # noqa: E402, F401  (it imports no other module of medi)
import shape_checks  # noqa: E402
from invariants import INVARIANTS, guarded  # noqa: E402

shape_checks.install()

SOURCE = Path(__file__).parent / "src"
SLOW_EXAMPLES = (
    "medi.api.",
    "medi.cohort.table.Cohort",
    "medi.cohort.audit.Audit",
    "medi.cohort.holdout.Holdout",
    "medi.cohort.plan.Plan",
)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of a command in the background: tests send it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, text in INVARIANTS.items():
        config.addinivalue_line("markers", f"{name.lower()}: {text}")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """A module without an example is not imported to look for one; None leaves the choice to pytest."""
    is_source = collection_path.suffix == ".py" and SOURCE in collection_path.parents
    return True if is_source and ">>>" not in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Markers of invariants; files of which more tests are slow go first, so that no process waits for another.

    Examples that train a model or audit a cohort are slow as well: a docstring cannot carry the mark itself.
    """
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name.startswith(SLOW_EXAMPLES):
            item.add_marker(pytest.mark.slow)
        for name in guarded(item.name, getattr(getattr(item, "function", None), "__doc__", None)):
            item.add_marker(name.lower())
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 10, 10)  # half the time of what Python starts with


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    return with_room(runner.pytest_runtest_protocol, item, nextitem)


def with_room(function: Callable[..., bool], *arguments: object) -> bool:
    """Call a function above a frame of half a megabyte, which Python puts in a piece of memory of twice its size.

    Python 3.11 keeps the frames of a thread in pieces of 16 kB. A call that crosses into the next piece asks the system
    for it and gives it back at its end: under pytest, which is 60 calls deep, an eighth of the time of a study.
    """
    return function(*arguments)


with_room.__code__ = with_room.__code__.replace(co_stacksize=1 << 16)


@pytest.fixture(autouse=True)
def _folder_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an example writes lands in an empty folder."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(request.getfixturevalue("tmp_path"))
