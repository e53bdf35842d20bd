"""A run folder: stages once, resumed after a kill, refused or redone where settings changed (P12)."""

from pathlib import Path

import pytest

from medi.core.errors import MediError
from medi.core.files import read_json, write_json, write_text
from medi.core.progress import Silent
from medi.study.stages import Run


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def writer(text: str, calls: list[str]):
    def work(path: Path) -> str:
        calls.append(text)
        write_text(path / "x.txt", text)
        return f"wrote {text}"

    return work


def two_stages(folder: Path, first: str, second: str, redo: bool = False) -> tuple[list[str], list[str]]:
    """Stages `a` and `b`, of which b reads a; returns what worked and what was shown."""
    calls: list[str] = []
    heard = Heard()
    run = Run(folder, heard, redo)
    run.stage("a", writer(first, calls), first)
    run.stage("b", writer(second, calls), second, ["a"])
    return calls, heard.lines


def test_finished_stages_are_skipped(tmp_path: Path) -> None:
    assert two_stages(tmp_path / "run", "1", "2")[0] == ["1", "2"]
    calls, lines = two_stages(tmp_path / "run", "1", "2")
    assert calls == []
    assert lines == ["a: wrote 1 (done before)", "b: wrote 2 (done before)"]


def test_changed_settings_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    with pytest.raises(MediError, match="stage 'a' was run with other settings; choose another --out, or --redo"):
        two_stages(tmp_path / "run", "changed", "2")
    assert (tmp_path / "run" / "a" / "x.txt").read_text() == "1"
    assert two_stages(tmp_path / "run", "1", "2")[0] == []


def test_redo_runs_a_changed_stage_and_what_reads_it(tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    assert two_stages(tmp_path / "run", "1", "3", redo=True)[0] == ["3"]
    assert two_stages(tmp_path / "run", "9", "3", redo=True)[0] == ["9", "3"]


def test_killed_stage_goes_on_and_its_seconds_add_up(tmp_path: Path) -> None:
    def kill(path: Path) -> str:
        write_text(path / "part.txt", "kept")
        raise KeyboardInterrupt

    run = Run(tmp_path / "run", Silent())
    with pytest.raises(KeyboardInterrupt):
        run.stage("a", kill, "s")
    before = read_json(tmp_path / "run" / "run.json")["stages"]["a"]
    assert before["line"] is None
    again = Run(tmp_path / "run", Silent())
    again.stage("a", lambda path: (path / "part.txt").read_text(), "s")
    assert again.stages["a"]["line"] == "kept"
    assert again.seconds["a"] >= before["seconds"]


def test_stage_may_own_a_file(tmp_path: Path) -> None:
    def work(path: Path) -> str:
        write_text(path, "t")
        return "done"

    Run(tmp_path, Silent()).stage("tables/x.txt", work, 1)
    Run(tmp_path, Silent(), redo=True).stage("tables/x.txt", work, 2)
    assert (tmp_path / "tables" / "x.txt").read_text() == "t"


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(MediError, match="is not empty and holds no run of medi; choose another --out"):
        Run(tmp_path, Silent())
    with pytest.raises(MediError, match=r"thesis\.tex: is a file; choose a folder"):
        Run(tmp_path / "thesis.tex", Silent())
    with pytest.raises(MediError, match="cannot be made"):
        Run(tmp_path / "thesis.tex" / "run", Silent())


def test_newer_and_damaged_records_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"format_version": 99, "stages": {}})
    with pytest.raises(MediError, match="newer than"):
        Run(tmp_path, Silent())
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(MediError, match=r"run\.json: not readable"):
        Run(tmp_path, Silent())
