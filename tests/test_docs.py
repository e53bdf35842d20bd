"""Every command in README and docs is one that `medi` understands; those that write nothing are run."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from command_line import Medi, fine
from medi.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PREFIXES = ("medi ", "torchrun ", "srun ")


def commands(page: Path) -> list[str]:
    """The commands of a page: lines in code blocks, continued ones joined, and `medi ...` in inline code."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(medi [a-z][^`\n]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    parts = [part.strip() for line in [*lines, *inline] for part in line.split("&&")]
    return [part for part in parts if part.startswith(PREFIXES)]


def arguments(command: str) -> list[str]:
    """What `medi` gets: after its name, or after `-m medi.cli`."""
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "0"), comments=True)
    return words[words.index("medi.cli") + 1 :] if "medi.cli" in words else words[1:]


def parse(given: list[str]) -> None:
    """Let the verb read its arguments without being called; a page that names a verb alone has nothing to parse."""
    group = typer.main.get_command(app)
    verb = group.commands[given[0]]  # a verb that does not exist is a KeyError
    rest = given[1:]
    if any(word in ("...", "--help") or "|" in word for word in given) or not rest or rest[0].isupper():
        return
    verb.make_context(given[0], list(rest))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page: Path) -> None:
    for command in commands(page):
        try:
            parse(arguments(command))
        except Exception as error:
            raise AssertionError(f"{page.name}: {command}: {error!r}") from error


def test_pages_have_commands_at_all() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 60


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_dry_runs_of_our_studies_run(medi: Medi) -> None:
    for name in ("demo", "quick"):
        shown = fine(medi("run", name, "--dry-run"))
        assert "holdout: " in shown
        assert "models: cls and medi" in shown
