"""The command line as a function."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Medi


@pytest.fixture
def medi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Medi:
    """medi(*arguments): exit code and everything printed, run in a folder of its own."""
    from medi.cli import main as cli

    def _run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medi", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out + shown.err

    monkeypatch.chdir(tmp_path)
    return _run


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
