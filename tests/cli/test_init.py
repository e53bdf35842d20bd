"""The verb init: a study file from a look at a table or at folders, with and without questions."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from command_line import Medi, fine, refused
from medi.sampling.guidance import Guidance
from medi.study.settings import read_study
from shared_data import SHARED, real

WARNING = "warning: no column is the patient"


def write(columns: dict[str, Callable[[int], str]], rows: int = 48, side: int = 40) -> Path:
    """A table with a row and an image of `side` px each: name of a column -> its text in row i; `#` is the image."""
    Path("own").mkdir(exist_ok=True)
    lines = [",".join(columns)]
    for i in range(rows):
        Image.new("RGB", (side, side), (3 * i, 90, 120)).save(f"own/{i}.png")
        lines.append(",".join(text(i) for text in columns.values()))
    path = Path("own/Table of Patches.csv")
    path.write_text("\n".join(lines) + "\n")
    return path


def table() -> dict[str, Callable[[int], str]]:
    """Names as people write them: 2 classes x 3 scanners, two patches a patient."""
    return {
        "Filename": lambda i: f"{i}.png",
        "Diagnose": lambda i: "ab"[i // 2 % 2],
        "Case_ID": lambda i: f"P{i // 2}",
        "Scanner": lambda i: ("Aperio", "Leica", "n/a")[i // 4 % 3],
        "split": lambda i: ("train", "test")[i % 2],
        "area": lambda i: str(100.5 + i),
    }


def said(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Somebody at a terminal who answers so."""
    keyboard = io.StringIO("".join(f"{answer}\n" for answer in answers))
    keyboard.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", keyboard)


@pytest.mark.slow
def test_a_table_with_names_that_people_use_becomes_a_study(medi: Medi) -> None:
    source = write(table())
    shown = fine(medi("init", source, "--yes", "--out", "my study.yaml"))
    assert shown.splitlines()[-1] == "next: medi run 'my study.yaml' --dry-run"
    study = read_study(Path("my study.yaml"))
    options = {"label": "Diagnose", "image": "Filename", "patient": "Case_ID", "slide": "", "attributes": ["Scanner"]}
    assert study.cohort.read == {"kind": "table", **options}
    assert (study.attribute, study.preset, study.cohort.size) == ("Scanner", "laptop32", 32)
    assert WARNING not in shown
    assert "warning: Scanner: n/a look like 'not known' but are levels" in shown
    assert "# missing: {Scanner: [n/a]}" in Path("my study.yaml").read_text()
    assert "holdout: " in fine(medi("run", "my study.yaml", "--dry-run")), "as it is"


@pytest.mark.slow
def test_patches_of_64_px_and_unknown_patients(medi: Medi) -> None:
    columns = {name: text for name, text in table().items() if name != "Case_ID"}
    shown = fine(medi("init", write(columns, side=70), "--yes"))
    assert WARNING in shown
    text = Path("study.yaml").read_text()
    assert "WARNING: no column is the patient or the slide" in text
    study = read_study(Path("study.yaml"))
    assert (study.preset, study.cohort.size, study.sampling.sigma_max) == ("laptop64", 64, 80)
    assert study.sampling.guidance == Guidance(classifier=2, candidates=2)
    refused(medi("init", "own", "--yes"), "study.yaml: is there already", "--out")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "preset"), [(40, "laptop32"), (48, "laptop64")])
def test_patches_of_a_size_that_no_preset_has_get_a_network_that_halves_them(
    size: int, preset: str, medi: Medi
) -> None:
    """laptop64 halves its patches four times, laptop32 three times."""
    read = ("--label", "Diagnose", "--patient", "Case_ID", "--attributes", "Scanner")
    fine(medi("holdout", write(table()), *read, "--over", "class,Scanner", "--rate", "0.3", "--out", "held"))
    fine(medi("pack", "held", "--size", str(size), "--out", "packed"))
    fine(medi("init", "packed", "--yes"))
    assert read_study(Path("study.yaml")).preset == preset
    assert f"at {size} px" in fine(medi("run", "study.yaml", "--dry-run"))


@pytest.mark.slow
def test_what_a_person_answers_is_taken(medi: Medi, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {**table(), "ward": lambda i: "uvw"[i // 8 % 3]}
    said(monkeypatch, "Diagnose", "Case", "Case_ID", "none", "ward", "y")
    shown = fine(medi("init", write(columns)))
    assert "'Case' is none of them; did you mean Case_ID?" in shown
    study = read_study(Path("study.yaml"))
    assert study.attribute == "ward"
    assert study.cohort.read["attributes"] == ["ward", "Scanner"]
    assert study.cohort.read["missing"] == {"Scanner": ["n/a"]}


@pytest.mark.slow
def test_folders_of_classes_and_sites(medi: Medi) -> None:
    for name in (f"{c}/{s}" for c in "ab" for s in "xyz"):
        Path("patches", name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (36, 36), (9 * i, 9, 9)).save(Path("patches", name, f"{i}.png"))
    fine(medi("init", "patches", "--yes"))
    study = read_study(Path("study.yaml"))
    assert study.attribute == "site"
    assert study.cohort.source == "patches"


@pytest.mark.slow
def test_folders_of_classes_alone_become_a_table_to_fill_in(medi: Medi) -> None:
    """A study compares the levels of an attribute; nothing is written into the folder of images."""
    for c in "ab":
        Path("patches", c).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (36, 36), (9 * i, 9, 9)).save(Path("patches", c, f"{i}.png"))
    before = sorted(Path("patches").rglob("*"))
    shown = fine(medi("init", "patches", "--yes"))
    assert shown.splitlines()[-1] == "next: medi init metadata.csv --root patches"
    assert "warning: the folders say the class alone" in shown
    assert sorted(Path("patches").rglob("*")) == before
    assert not Path("study.yaml").exists()
    refused(medi("init", "patches", "--yes"), "metadata.csv is there already")
    refused(medi("init", "metadata.csv", "--root", "patches", "--yes"), "no column can be the attribute")
    lines = Path("metadata.csv").read_text().splitlines()
    filled = [f"{line.rstrip(',')},P{i},S{i},{'xy'[i % 2]}" for i, line in enumerate(lines[1:])]
    Path("metadata.csv").write_text("\n".join([lines[0], *filled]) + "\n")
    shown = fine(medi("init", "metadata.csv", "--root", "patches", "--yes"))
    assert WARNING not in shown
    assert yaml.safe_load(Path("study.yaml").read_text())["cohort"]["read"]["root"] == "patches"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"Diagnose": lambda i: "a"}, "only one class (a): nothing to hold out"),
        ({"Scanner": lambda i: "one"}, "Scanner has one level"),
        ({"Scanner": lambda i: "xy"[i // 2 % 2]}, "Scanner is the class in other words"),
        ({"Diagnose": None, "what": lambda i: "ab"[i % 2]}, "no column looks like the class; name it with --label"),
    ],
)
def test_what_cannot_be_studied_is_said_in_one_line(
    changed: dict[str, Callable[[int], str]], words: str, medi: Medi
) -> None:
    columns = {name: text for name, text in (table() | changed).items() if text}
    refused(medi("init", write(columns), "--yes"), words)
    assert not Path("study.yaml").exists()


@pytest.mark.slow
def test_patients_with_patches_of_every_combination_keep_them_set_aside(medi: Medi) -> None:
    """A hold-out at random would leave nothing to train on."""
    columns = table() | {"Case_ID": lambda i: f"P{i % 5}"}
    fine(medi("init", write(columns, rows=120), "--yes"))
    study = read_study(Path("study.yaml"))
    assert study.holdout.set_aside
    assert study.holdout.held
    assert "set_aside" in fine(medi("run", "study.yaml", "--dry-run"))


@pytest.mark.slow
@real
def test_white_blood_cells_in_three_laboratories(medi: Medi) -> None:
    shown = fine(medi("init", SHARED / "wbc", "--yes"))
    assert WARNING in shown
    study = read_study(Path("study.yaml"))
    assert (study.attribute, study.cohort.read["attributes"], study.preset) == ("lab", ["lab"], "laptop64")
    assert study.cohort.read["label"] == "label"
    assert {name for name, _ in study.holdout.held} == {"neutrophil", "lymphocyte", "eosinophil", "monocyte"}
    assert "warning: no column is the patient" in fine(medi("run", "study.yaml", "--dry-run"))
