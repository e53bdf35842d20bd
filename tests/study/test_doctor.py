"""medi doctor: what is there, and whether folders are sound; every finding has its remedy."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_run
from command_line import Medi, fine
from medi.core.files import read_json, write_json
from medi.core.locks import NAME, locked
from medi.models.checkpoint import save_tensors
from medi.study import doctor


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.write_run(tmp_path_factory.mktemp("doctor") / "run")


@pytest.fixture
def run_folder(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "run")


def broken(path: Path) -> list[doctor.Finding]:
    return [finding for finding in doctor.contents(path) if finding.state == "broken"]


@pytest.mark.slow
def test_a_sound_machine_and_run(medi: Medi, run_folder: Path) -> None:
    shown = fine(medi("doctor", run_folder, run_folder / "cohort", run_folder / "models" / "medi"))
    for words in ("all is well", "packages: PyYAML", "processor: ", "encoders here: colour-texture"):
        assert words in shown
    assert "encoders not here: inception, dinov2-s" in shown, "one line for all of them"
    assert "run: all 6 stages are finished" in shown
    assert "cohort of 240 rows, 3 attributes, 32 px, checksums hold" in shown
    assert "hold-out: 1 combinations without a training patch, the certificate holds" in shown
    assert "32 px, knows class, site, grade, age, which made the samples" in shown


@pytest.mark.slow
def test_without_a_path_it_starts_without_torch() -> None:
    """Fast: torch is for GPUs and models alone."""
    code = "import sys; from medi.study import doctor; list(doctor.installation()); list(doctor.machine()); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def newer(path: Path) -> None:
    write_json(path, read_json(path) | {"format_version": 99})


def unfinished(path: Path) -> None:
    content = read_json(path)
    content["stages"]["samples"]["line"] = None
    write_json(path, content)


def other(path: Path) -> None:
    shutil.copyfile(path.parents[1] / "medi" / path.name, path)


@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("cohort/pixels.npy", lambda path: flip(path, 5000), "rows 0 to 239 are damaged"),
        ("cohort/pixels.npy", cut, "not a whole pixel store"),
        ("cohort/cohort.json", newer, "format_version 99 is newer"),
        ("cohort/table.parquet", cut, "its checksum differs"),
        ("samples/medi/table.parquet", cut, "its checksum differs"),
        ("models/medi/model.safetensors", cut, "not a whole checkpoint"),
        ("models/cls/model.safetensors", lambda path: flip(path, -5), "not those that were written"),
        ("models/cls/model.safetensors", lambda path: other(path), "the samples were made by another model"),
        ("holdout/split.parquet", lambda path: _mix_up(path), "the certificate does not hold"),
        ("run.json", newer, "format_version 99 is newer"),
        ("audit", shutil.rmtree, "audit is gone although its stage is done"),
    ],
)
def test_damage_is_found_and_has_a_remedy(name: str, harm, words: str, run_folder: Path) -> None:
    harm(run_folder / name)
    found = broken(run_folder)
    assert any(words in finding.text for finding in found), found
    assert all(finding.remedy for finding in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("run.json", unfinished, "unfinished run: stage samples is not finished"),
        ("results.json", Path.unlink, "unfinished run: results.json is not there yet"),
    ],
)
def test_a_run_that_was_stopped_is_not_broken(name: str, harm, words: str, medi: Medi, run_folder: Path) -> None:
    """Defect: BROKEN and exit code 1, although the same command goes on. A killed run keeps a copy of its record."""
    harm(run_folder / name)
    (run_folder / "run.json").rename(run_folder / ".run.json")
    (run_folder / "log.txt").write_text("2026-01-01  $ medi run my.yaml --out run\n")
    shown = fine(medi("doctor", run_folder))
    assert f"note    {run_folder}: {words}" in shown
    assert "-> the same command goes on where it stopped: medi run my.yaml --out run" in shown
    assert "nothing is broken; what is not finished goes on" in shown
    assert f"next: medi status {run_folder}" in shown
    shutil.rmtree(run_folder / "audit")
    assert any("audit is gone although its stage is done" in finding.text for finding in broken(run_folder))


def gone() -> str:
    """What a process of this machine that was killed leaves in its lock."""
    held = {"host": socket.gethostname(), "pid": 1, "born": "never", "command": "medi train packed --out here"}
    return json.dumps(held)


@pytest.mark.slow
def test_a_training_that_was_stopped_is_not_broken(run_folder: Path, tmp_path: Path) -> None:
    """Defect: a folder with a lock or a state alone held "no model" and was BROKEN."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / NAME).write_text(gone())
    (found,) = doctor.contents(folder)
    assert (found.state, found.text) == ("stopped", "nothing was saved before it stopped")
    assert found.remedy == "the same command goes on where it stopped: medi train packed --out here"
    save_tensors(
        folder / "state.safetensors", {"weights": torch.zeros(3)}, {"images": 8000, "recipe": {"images": 30000}}
    )
    (found,) = doctor.contents(folder)
    assert (found.state, found.text.split(", ")[1]) == ("stopped", "saved at 8,000 of 30,000 images")
    shutil.copytree(folder, run_folder / "models" / "third")
    assert not broken(run_folder)
    for place in (folder, run_folder):
        cut(next(place.rglob("state.safetensors")))
        assert "not a whole checkpoint" in broken(place)[0].text


def test_who_works_in_a_folder_is_waited_for(tmp_path: Path) -> None:
    with locked(tmp_path):
        (found,) = doctor.contents(tmp_path)
    assert (found.state, found.remedy.split("; ")[1]) == ("stopped", "wait until it ends")
    assert str(os.getpid()) in found.remedy


def test_a_packing_and_a_sampling_that_were_stopped_are_not_broken(tmp_path: Path) -> None:
    write_json(tmp_path / "pack" / "unfinished" / "recipe.json", {"recipe": "r", "rows": 1200})
    (tmp_path / "sample" / "parts").mkdir(parents=True)
    (tmp_path / "sample" / "parts" / "000000000.npy").touch()
    found = [next(doctor.contents(tmp_path / name)) for name in ("pack", "sample")]
    assert [one.state for one in found] == ["stopped", "stopped"]
    assert found[0].text == "a packing of 1,200 patches that is not finished"
    assert found[1].text == "a sampling that is not finished, batches of images so far: 1"


def _mix_up(path: Path) -> None:
    """Swap the splits of a patient's patch and of another one's."""
    import pandas as pd

    table = pd.read_parquet(path)
    train, test = (int(np.argmax((table["split"] == split).to_numpy())) for split in ("train", "test_unseen"))
    table.loc[[train, test], "split"] = table.loc[[test, train], "split"].to_numpy()
    table.to_parquet(path)


@pytest.mark.slow
def test_the_exit_code_says_that_something_is_broken(medi: Medi, run_folder: Path) -> None:
    cut(run_folder / "models" / "medi" / "model.safetensors")
    code, shown = medi("doctor", run_folder, "nowhere")
    assert code == 1
    assert "BROKEN  nowhere: no such file or folder" in shown
    assert "2 of these are broken" in shown
    assert "Traceback" not in shown


def test_what_is_no_folder_of_ours_and_what_was_left_behind(run_folder: Path, tmp_path: Path) -> None:
    (found,) = broken(tmp_path)
    assert found.remedy == "name the folder of a run, a cohort or a model"
    (run_folder / ".app-left").mkdir()
    assert any(f.state == "note" and ".app-left" in f.topic for f in doctor.contents(run_folder))


def test_a_package_that_is_too_old_or_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: ["torch>=999", "nosuch>=1; extra == 'app'", "numpy>=1"])
    found = {finding.topic: finding for finding in doctor.installation()}
    assert found["packages"].state == "broken"
    assert "torch>=999 (found 2" in found["packages"].text
    assert "numpy" not in found["packages"].text
    assert found["extra app"].state == "note"
    assert found["extra app"].text == "lacks nosuch>=1 (found none)"
    assert "medi-histo[app]" in found["extra app"].remedy
