"""Every command in README and docs is one that `medi` understands; those that write nothing are run."""

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer

from command_line import Medi, fine, refused
from medi.cli.main import app
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.registry import REGISTRIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PREFIXES = ("medi ", "torchrun ", "srun ")


def commands(page: Path) -> list[str]:
    """The commands of a page: lines in code blocks, continued ones joined."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in fences if language in ("", "bash")]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith(PREFIXES)]


def mentions(page: Path) -> list[str]:
    """`medi ...` in running text, perhaps a synopsis."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`(medi [a-z-][^`\n]*)`", text)


def arguments(command: str) -> list[str]:
    """What `medi` gets: after its name, or after `-m medi.cli`."""
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "0"), comments=True)
    return words[words.index("medi.cli") + 1 :] if "medi.cli" in words else words[1:]


@cache
def program() -> Any:
    """`medi`, built once."""
    return typer.main.get_command(app)


def verb_of(given: list[str]) -> Any:
    return program().commands[given[0]]  # a verb that does not exist is a KeyError


def root_options() -> set[str]:
    """The options of `medi` itself, such as --install-completion."""
    return {"--help"} | {option for parameter in program().params for option in parameter.opts}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page: Path) -> None:
    for command in commands(page):
        given = arguments(command)
        if given[0].startswith("--"):
            assert given[0] in root_options(), f"{page.name}: {command}"
            continue
        try:
            verb_of(given).make_context(given[0], given[1:])  # reads the arguments, calls nothing
        except Exception as error:
            raise AssertionError(f"{page.name}: {command}: {error!r}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_and_option_that_is_mentioned_exists(page: Path) -> None:
    for text in mentions(page):
        words = re.findall(r"[\w-]+", text)[1:]
        if words[0].startswith("--"):
            assert words[0] in root_options(), f"{page.name}: {text}"
            continue
        verb = verb_of(words)
        parts = [verb, *getattr(verb, "commands", {}).values()]
        known = {option for part in parts for parameter in part.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, f"{page.name}: {text}"


def test_pages_have_commands_at_all() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the code blocks that run: `python` and `bash`; others show and are not run."""
    return re.findall(r"^```(python|bash)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_blocks(found: Sequence[tuple[str, str]], medi: Medi, page: Path) -> None:
    """One block after another, as a reader types them: Python in one namespace, commands of `medi` as commands."""
    names: dict[str, object] = {"__name__": "__main__"}
    for language, text in found:
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            fine(medi(*arguments(line)))


FEWER_PATCHES = {"patches=400": "patches=240"}
FEWER = {  # minutes as they stand
    "own-cohort": FEWER_PATCHES | {"--to 40": "--to 8", "--steps 8": "--steps 2", "--draws 100": "--draws 20"},
    "phantom": FEWER_PATCHES | {"to=40": "to=8", "steps=8": "steps=2", "draws=100": "draws=20"},
    "README": FEWER_PATCHES | {"images=3200, warmup=160": "images=160, warmup=32", "plan(to=40)": "plan(to=5)"},
}


def shorter(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page with fewer patches, images, samples, steps and draws."""
    found = blocks(page)
    for many, few in FEWER[page.stem].items():
        assert any(many in text for _, text in found)
        found = [(language, text.replace(many, few)) for language, text in found]
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["phantom", "own-cohort"])
def test_tutorial_runs_as_written(name: str, medi: Medi) -> None:
    """As written, but on fewer patches, samples, steps and draws."""
    page = ROOT / "docs" / "tutorials" / f"{name}.md"
    run_blocks(shorter(page), medi, page)
    if name == "own-cohort":
        text = Path("my-report/report.html").read_text(encoding="utf-8")
        assert "Training curves" in text, "the logs of the models beside the samples"
        assert "Mean recall over combinations by training set" in text


def chain(page: Path) -> list[tuple[str, ...]]:
    """The steps of a page: the verb, what it reads, and the folder it writes; baselines and options left out."""
    found = []
    for given in map(arguments, commands(page)):
        words = [word for word in given if word.startswith(("my-", "medi=", "metadata")) or word == given[0]]
        if any(word.startswith("my-") for word in words) and not {"--cls", "cls-model", "verify"} & set(given):
            found.append(tuple(words))
    return found


def test_readme_and_tutorial_go_the_same_way() -> None:
    """The six commands, the measures and the report: same verbs, same folders, same order."""
    verbs = ("init", "run", "audit", "holdout", "pack", "train", "plan", "sample", "fidelity", "utility", "report")
    readme, tutorial = (
        [step for step in chain(page) if step[0] in verbs]
        for page in (ROOT / "README.md", ROOT / "docs" / "tutorials" / "own-cohort.md")
    )
    assert readme == tutorial


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_python_of_the_readme_runs_as_written_on_fewer_images(medi: Medi) -> None:
    page = ROOT / "README.md"
    run_blocks([block for block in shorter(page) if block[0] == "python"], medi, page)


@pytest.mark.slow
def test_extension_points_are_all_shown_and_run(medi: Medi) -> None:
    """An example of at most twenty lines for each kind of thing; the page registers, uses and checks it."""
    page = ROOT / "docs" / "how-to" / "extending.md"
    found = blocks(page)
    registered = [text for _, text in found if "@medi.register(" in text]
    assert {kind for text in registered for kind in re.findall(r'register\("(\w+)"', text)} == set(REGISTRIES)
    assert max(len(text.splitlines()) for text in registered) <= 20
    run_blocks(found, medi, page)


def headings(page: Path) -> set[str]:
    """What a link into a page may name: its headings in lower case, punctuation dropped, hyphens for spaces."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {
        re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link, _, heading in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", page.read_text(encoding="utf-8")):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name}: {link}"
            assert not heading or heading in headings(target), f"{page.name}: {link}#{heading}"


def write_packed(folder: Path, size: int) -> None:
    """A packed cohort of a few grey patches of that size, all for training."""
    table = pd.DataFrame([(c, s) for c in "ab" for s in "xy"], columns=["class", "hospital"])
    table = table.assign(sample_id=list("1234"), patient=list("1234"), slide=list("1234"), split="train")
    pixels = Pixels.of(np.full((4, size, size, 3), 128, dtype=np.uint8))
    Cohort(table, Schema.infer(table, ["hospital"]), pixels).save(folder)


@pytest.mark.slow
def test_training_on_a_cluster_as_documented_dry(medi: Medi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`medi train` with every preset that the pages name, torchrun's too, on packed cohorts of the sizes they pack.

    The tutorials, whose cohorts are smaller, are run as they are.
    """
    monkeypatch.setattr("medi.training.cost.TRIAL", 0.1)
    write_packed(tmp_path / "my-packed", 64)
    write_packed(tmp_path / "ut-packed", 128)
    found = [arguments(command) for page in PAGES if page.parent.name != "tutorials" for command in commands(page)]
    training = {given[given.index("--preset") + 1]: given for given in found if given[0] == "train"}
    assert len(training) > 2
    for given in training.values():
        shown = fine(medi(*given, "--dry-run"))
        assert "4 patches; conditions: class" in shown
        assert "GFLOP an image" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"my-packed", "ut-packed"}, "nothing is written"
    refused(medi("train", "my-packed", "--preset", "patch128", "--dry-run"), "64 px", "128")


def test_every_study_that_medi_brings_is_named(medi: Medi) -> None:
    brought = {path.stem for path in (ROOT / "src" / "medi" / "study" / "studies").glob("*.yaml")}
    page = (ROOT / "docs" / "how-to" / "studies.md").read_text(encoding="utf-8")
    assert brought <= set(re.findall(r"`(\w+)`", page))
    assert brought <= set(re.findall(r"\w+", fine(medi("run", "--help"))))


@pytest.mark.slow
def test_dry_runs_of_our_studies_run(medi: Medi) -> None:
    shown = fine(medi("run", "quick", "--dry-run"))
    assert "holdout: " in shown
    assert "models: cls and medi" in shown


@pytest.mark.slow
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page: page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")}
    assert len(pages) > 20
    for page, text in pages.items():
        loaded = re.findall(
            r"<(?:script|img)[^>]* src=\"?(?:https?:)?//[^>]*|<link[^>]*stylesheet[^>]*https?://[^>]*", text
        )
        assert not loaded, f"{page.name}: {loaded[0]}"
    assert "--attributes" in pages[tmp_path / "reference" / "cli.html"]
    assert "medi.Cohort" in pages[tmp_path / "reference" / "api.html"]
