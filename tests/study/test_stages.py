"""A run folder: stages once, resumed after a kill, refused or done again where they are stale (P12, P15)."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from medi.core.errors import MediError
from medi.core.files import read_json, write_json, write_text
from medi.core.progress import Silent
from medi.core.registry import register, registered_here, registry
from medi.study.generating import discard_models
from medi.study.stages import Run, Stage
from real_processes import worked, write_line

Calls = list[str]


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def write(calls: Calls, path: Path, text: str) -> str:
    """The work of a stage; its study is the list of what was done."""
    calls.append(text)
    write_text(path / "x.txt", text)
    return f"wrote {text}"


def stage(name: str, text: str, *reads: str, version: int = 1) -> Stage[Calls]:
    return Stage(name, partial(write, text=text), reads, text, version)


def two_stages(folder: Path, first: str, second: str, redo: bool = False, version: int = 1) -> tuple[Calls, list[str]]:
    """Stages `a` and `b`, of which b reads a; returns what worked and what was shown."""
    calls: Calls = []
    heard = Heard()
    run = Run(folder, heard, redo)
    run.do(stage("a", first, version=version), calls)
    run.do(stage("b", second, "a"), calls)
    return calls, heard.lines


def test_finished_stages_are_skipped(tmp_path: Path) -> None:
    assert two_stages(tmp_path / "run", "1", "2")[0] == ["1", "2"]
    calls, lines = two_stages(tmp_path / "run", "1", "2")
    assert calls == []
    assert lines == ["a: wrote 1 (done before)", "b: wrote 2 (done before)"]


@pytest.mark.slow
def test_stages_beside_each_other_end_as_one_after_another_do_p12(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are done stay so where another fails, and the same call does the others alone."""
    monkeypatch.setattr("medi.study.stages.cores", lambda: 2)
    monkeypatch.setattr("medi.study.stages.registered_here", lambda: False)
    heard, folder = Heard(), tmp_path / "run"
    both = [Stage(text, partial(write_line, text=text), settings=text) for text in ("a", "b")]
    third = Stage("c", partial(write_line, text="c"))
    failing = replace(third, work=partial(write_line, text=""))
    with pytest.raises(MediError, match="nothing to write"):
        Run(folder, heard).do_beside([*both, failing], [], worked)
    assert {line.split(" (")[0] for line in heard.lines} <= {"a: wrote a", "b: wrote b"}
    heard.lines.clear()
    run = Run(folder, heard)
    run.do_beside([*both, third], [], worked)
    assert {line.split(" (")[0] for line in heard.lines} == {"a: wrote a", "b: wrote b", "c: wrote c"}
    heard.lines.clear()
    for each in (*both, third):
        Run(folder, heard).do(each, [])
    assert all("done before" in line for line in heard.lines), "one after another they are found done"


def test_stages_are_done_here_where_processes_would_not_know_what_was_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medi.study.stages.cores", lambda: 2)
    monkeypatch.setattr("medi.core.registry._registered_here", [])
    assert not registered_here()
    register("metric", "known here alone")(write)
    del registry("metric").things["known here alone"]
    assert registered_here()
    calls: Calls = []
    Run(tmp_path, Heard()).do_beside([stage("a", "1"), stage("b", "2")], calls, worked)
    assert calls == ["1", "2"]


@pytest.mark.slow
def test_what_two_stages_take_at_once_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medi.study.stages.cores", lambda: 2)
    monkeypatch.setattr("medi.study.stages.registered_here", lambda: False)
    run, started = Run(tmp_path, Silent()), time.perf_counter()
    run.do_beside([Stage(name, partial(write_line, text=name)) for name in "abcd"], [], worked)
    took = time.perf_counter() - started
    assert 1 < sum(run.seconds.values()) < took + 0.1, "each works for half a second"


def test_changed_settings_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    with pytest.raises(MediError, match=r"stage 'a' was run with other settings or by another version.*--redo"):
        two_stages(tmp_path / "run", "changed", "2")
    assert (tmp_path / "run" / "a" / "x.txt").read_text() == "1"
    assert two_stages(tmp_path / "run", "1", "2")[0] == []


def test_what_others_make_is_deleted_where_it_is_stale(tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    run = Run(tmp_path / "run", Silent(), redo=True)
    run.begin(stage("a", "1"))
    assert run.is_done(stage("a", "1")), "what is done as it is wanted stays"
    run.begin(stage("a", "9"))
    assert not run.is_done(stage("a", "9"))
    assert not (tmp_path / "run" / "a").exists()


def test_redo_does_a_changed_stage_again_and_what_reads_it(tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    assert two_stages(tmp_path / "run", "1", "3", redo=True)[0] == ["3"]
    assert two_stages(tmp_path / "run", "9", "3", redo=True)[0] == ["9", "3"]


def test_a_new_version_of_a_stage_makes_it_stale_and_what_follows(tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    with pytest.raises(MediError, match="stage 'a'"):
        two_stages(tmp_path / "run", "1", "2", version=2)
    assert two_stages(tmp_path / "run", "1", "2", redo=True, version=2)[0] == ["1", "2"]


def test_a_stage_whose_output_is_missing_is_not_done_p15(tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    shutil.rmtree(tmp_path / "run" / "a")
    assert two_stages(tmp_path / "run", "1", "2")[0] == ["1"]


def kill(calls: Calls, path: Path) -> str:
    write_text(path / "part.txt", "kept")
    raise KeyboardInterrupt


def go_on(calls: Calls, path: Path) -> str:
    return (path / "part.txt").read_text()


def test_killed_stage_goes_on_and_its_seconds_add_up_p12(tmp_path: Path) -> None:
    def attempt(work: Callable[[Calls, Path], str]) -> Run:
        run = Run(tmp_path / "run", Silent())
        run.do(Stage("a", work), [])
        return run

    with pytest.raises(KeyboardInterrupt):
        attempt(kill)
    before = read_json(tmp_path / "run" / "run.json")["stages"]["a"]
    assert before["line"] is None
    again = attempt(go_on)
    assert again.records["a"].line == "kept"
    assert again.seconds["a"] >= before["seconds"]


def write_file(calls: Calls, path: Path) -> str:
    write_text(path, "t")
    return "done"


def test_stage_may_own_a_file(tmp_path: Path) -> None:
    Run(tmp_path, Silent()).do(Stage("tables/x.txt", write_file, settings=1), [])
    Run(tmp_path, Silent(), redo=True).do(Stage("tables/x.txt", write_file, settings=2), [])
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


@pytest.mark.parametrize("damage", ["deleted", "cut", "flipped"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_a_stage_whose_output_is_damaged_is_made_again_alone(name: str, damage: str, tmp_path: Path) -> None:
    """P15: missing or damaged is not done; it is named, and the same command repairs it."""
    two_stages(tmp_path / "run", "first", "second")
    path = tmp_path / "run" / name / "x.txt"
    data = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(data[:2] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    calls, lines = two_stages(tmp_path / "run", "first", "second")
    assert calls == [{"a": "first", "b": "second"}[name]]
    assert f"{name}: {name}/x.txt is {'missing' if damage == 'deleted' else 'damaged'}; made again" in lines
    assert path.read_bytes() == data
    assert two_stages(tmp_path / "run", "first", "second")[0] == []


def test_a_damaged_state_is_named_and_deleted_and_a_deleted_one_is_not_missed(tmp_path: Path) -> None:
    """P12, P15: nothing that is done needs the state of its training."""

    def work(calls: Calls, path: Path) -> str:
        calls.append("models")
        if not (path / "medi" / "model.safetensors").exists():
            write_text(path / "medi" / "state.safetensors", "state")
            write_text(path / "medi" / "model.safetensors", "model")
        return "trained"

    def once() -> tuple[Calls, list[str]]:
        calls: Calls = []
        heard = Heard()
        Run(tmp_path / "run", heard).do(Stage("models", work, discard=discard_models), calls)
        return calls, heard.lines

    once()
    model, state = (tmp_path / "run" / "models" / "medi" / f"{name}.safetensors" for name in ("model", "state"))
    state.write_text("damaged")
    assert once()[1][0] == "models: models/medi/state.safetensors is damaged; deleted"
    assert model.is_file()
    assert not state.exists()
    assert once()[0] == []


@pytest.mark.parametrize("damage", ["deleted", "cut", "flipped"])
@pytest.mark.parametrize("name", ["run.json", ".run.json"])
def test_a_damaged_record_is_replaced_by_its_copy(name: str, damage: str, tmp_path: Path) -> None:
    two_stages(tmp_path / "run", "1", "2")
    path = tmp_path / "run" / name
    data = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(data[:20] if damage == "cut" else data.replace(b"wrote 1", b"wrote 3"))
    calls, lines = two_stages(tmp_path / "run", "1", "2")
    assert calls == []
    assert lines[:2] == [f"{name} is missing or damaged; written again from its copy", "a: wrote 1 (done before)"]
    assert path.read_bytes() == data


def test_what_training_uses_up_may_be_deleted(tmp_path: Path) -> None:
    """`medi clean` takes the state of a finished training away; that is no damage."""

    def work(calls: Calls, path: Path) -> str:
        calls.append("trained")
        for name in ("medi/model.safetensors", "medi/state.safetensors", "medi/snapshots/1.safetensors"):
            write_text(path / name, name)
        return "trained"

    calls: Calls = []
    Run(tmp_path / "run", Heard()).do(Stage("models", work), calls)
    shutil.rmtree(tmp_path / "run" / "models" / "medi" / "snapshots")
    (tmp_path / "run" / "models" / "medi" / "state.safetensors").unlink()
    Run(tmp_path / "run", Heard()).do(Stage("models", work), calls)
    assert calls == ["trained"]
