"""Help, errors and completion: a reader at 80 columns finds every verb, and a slip is one line that helps."""

import os
import shlex
import subprocess
import sys
import time
from typing import Any

import pytest
import typer

from command_line import Medi, fine, refused
from medi import __version__
from medi.cli.help import GROUPS
from medi.cli.main import app

ROOT: Any = typer.main.get_command(app)
VERBS = [name for names in GROUPS.values() for name in names]
COMMANDS = [[name] for name in VERBS] + [["holdout", "verify"], ["adapt", "join"]]


def command_of(words: list[str]) -> Any:
    found = ROOT
    for word in words:
        found = found.commands[word]
    return found


def test_all_verbs_stand_in_their_groups_each_on_one_line(medi: Medi) -> None:
    assert set(ROOT.commands) == set(VERBS)
    shown = fine(medi("--help"))
    places = [shown.index(f"\n  {name}") for name in VERBS]
    assert places == sorted(places)
    assert all(f"{title}:\n" in shown for title in GROUPS)
    assert "..." not in shown.partition("\n")[2], "no sentence is cut"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_80_columns_and_its_example_is_understood(words: list[str], medi: Medi) -> None:
    shown = fine(medi(*words, "-h"))
    assert max(map(len, shown.splitlines())) <= 80
    (line,) = [line for line in shown.splitlines() if line.startswith("  Example: medi ")]
    given = shlex.split(line)[2:]
    assert given[: len(words)] == words
    command_of(words[:1]).make_context(given[0], given[1:])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is_for(words: list[str]) -> None:
    command = command_of(words)
    command = getattr(command, "first", command)
    assert not [parameter.name for parameter in command.params if not parameter.help]


@pytest.mark.parametrize("name", ["-h", "--help"])
def test_holdout_lists_and_explains_verify(name: str, medi: Medi) -> None:
    """Defect 10: help showed the options of the design alone."""
    shown = fine(medi("holdout", name))
    assert "Usage: medi holdout [OPTIONS]" in shown
    assert "--rate" in shown
    assert "medi holdout verify  Check data against the certificate of a hold-out." in shown
    assert "--certificate" in fine(medi("holdout", "verify", name))
    assert "medi adapt join" in fine(medi("adapt", name))
    assert fine(medi("holdout", "somewhere", name)) == shown


def test_version(medi: Medi) -> None:
    assert fine(medi("--version")) == f"medi {__version__}\n"


@pytest.mark.slow
def test_names_that_are_not_known_are_answered_with_known_ones(medi: Medi) -> None:
    refused(medi("adit"), "No such command 'adit'; did you mean audit")
    refused(medi("xyzzy"), "No such command 'xyzzy'; known: demo, init, run")
    refused(medi("train", "x", "--bach", "3"), "No such option: --bach; did you mean --batch", "see medi train --help")
    refused(medi("report", "x", "--zzz"), "No such option: --zzz; known:")
    refused(medi("holdout", "x", "--rat", "1"), "did you mean --rate")


@pytest.mark.slow
def test_help_is_there_in_no_time_and_without_torch() -> None:
    code = "import sys; from medi.cli import main; sys.argv[1:] = ['-h']; main.main()"
    check = f"import sys\ntry:\n exec({code!r})\nfinally:\n print([m for m in ('torch', 'pandas') if m in sys.modules])"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - start < 5, "a machine may be busy; it takes about 0.3 s"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("medi hold", {"holdout"}),
        ("medi holdout ver", {"verify"}),
        ("medi holdout --rat", {"--rate"}),
        ("medi holdout my-audit --rat", {"--rate"}),
        ("medi holdout my-audit --rule na", {"named"}),
        ("medi run ami_br_lo", {"ami_br_long"}),
    ],
)
def test_completion_of_the_shell(line: str, expected: set[str]) -> None:
    words = line.split()
    asked = {"_MEDI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-m", "medi.cli"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
