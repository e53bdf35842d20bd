"""medi doctor: what is there, and whether folders are sound; every finding has its remedy."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny_run
from command_line import Medi, fine
from medi.core.files import read_json, write_json
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
        ("run.json", unfinished, "unfinished run: stage samples is not finished"),
        ("run.json", newer, "format_version 99 is newer"),
        ("results.json", Path.unlink, "unfinished run: results.json is not there yet"),
        ("audit", shutil.rmtree, "audit is gone although its stage is done"),
    ],
)
def test_damage_is_found_and_has_a_remedy(name: str, harm, words: str, run_folder: Path) -> None:
    harm(run_folder / name)
    found = broken(run_folder)
    assert any(words in finding.text for finding in found), found
    assert all(finding.remedy for finding in found)


def _mix_up(path: Path) -> None:
    """Swap the splits of a patient's patch and of another one's."""
    import pandas as pd

    table = pd.read_parquet(path)
    train, test = (int(np.argmax((table["split"] == split).to_numpy())) for split in ("train", "test_unseen"))
    table.loc[[train, test], "split"] = table.loc[[test, train], "split"].to_numpy()
    table.to_parquet(path)


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
