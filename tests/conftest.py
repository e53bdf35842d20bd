"""The command line as a function."""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_line import NO_PICTURES, Medi, fine, here


@pytest.fixture
def medi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Medi:
    """medi(*arguments): exit code and everything printed, run in a folder of its own; a dry run tries a twentieth of
    a second what training costs."""
    from medi.cli import main as cli

    def _run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medi", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out + shown.err

    monkeypatch.setattr("medi.training.cost.TRIAL", 0.05)
    monkeypatch.chdir(tmp_path)
    return _run


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished `medi demo --quick` and what it printed; to be read alone. One for all processes."""
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "quick-run"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "printed.txt").exists():
            printed = fine(here("demo", "--quick", "--out", place / "seed0"))
            (place / "printed.txt").write_text(printed)
    return place / "seed0", (place / "printed.txt").read_text()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of reports are made but not drawn, for tests that look at numbers, words and files alone."""
    monkeypatch.setattr(*NO_PICTURES)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies end with an empty page, for tests that compare their other files alone."""
    from medi.core.files import write_text

    monkeypatch.setattr("medi.study.results.build", lambda folder: write_text(folder / "report.html", ""))


SMALL = 50_000  # bytes: a file that is copied and not linked; logs, which grow in place, are small


@pytest.fixture
def linked_run(quick_run: tuple[Path, str]) -> Iterator[Callable[..., Path]]:
    """linked_run(FOLDER): `quick_run` again, its large files as hard links, which must be replaced and never edited."""

    def _link(to: Path, *left_out: str) -> Path:
        return shutil.copytree(quick_run[0], to, ignore=shutil.ignore_patterns(*left_out), copy_function=_link_or_copy)

    def _large() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in quick_run[0].rglob("*") if path.is_file()}
        return {path: (about.st_size, about.st_mtime_ns) for path, about in found.items() if about.st_size >= SMALL}

    before = _large()
    yield _link
    assert _large() == before, "a file that other tests read was edited in place"


def _link_or_copy(source: str, target: str) -> None:
    (os.link if os.stat(source).st_size >= SMALL else shutil.copy2)(source, target)


@pytest.fixture(autouse=True)
def _own_registrations() -> Iterator[None]:
    """What a test registers (an example's solver, say) is gone after it; what medi brings stays."""
    from medi.core import registry
    from medi.core.registry import REGISTRIES

    before, loaded = {kind: set(found.things) for kind, found in REGISTRIES.items()}, list(registry.extensions())
    yield
    registry._loaded[:] = loaded
    for kind, found in REGISTRIES.items():
        for name in set(found.things) - before[kind]:
            thing = found.things[name]
            if not str(getattr(getattr(thing, "func", thing), "__module__", "")).startswith("medi."):
                del found.things[name]
