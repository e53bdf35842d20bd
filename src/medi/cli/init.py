"""The verb init: a study file for a cohort of the user's own."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.source import Source, with_source
from medi.cli.terminal import printable, say, warn
from medi.core.errors import MediError

if TYPE_CHECKING:
    from medi.study.proposing import Look, Proposal

NONE = "none"  # the answer for "no column"
TO_FILL = ("class", "image", "patient", "slide", "site")  # columns of the table that a person fills in


def init(
    source: Source,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Study file to write.")] = Path("study.yaml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what is guessed.")] = False,
) -> None:
    """A study file for your cohort, from a look at it.

    Looks at the columns, or at the folders, and at a few images. Asks what it cannot know, at a terminal. The file has
    a comment beside each entry, and `medi run` takes it as it is.

    Example: medi init metadata.csv --out my-study.yaml
    """
    from medi.study.file_text import file_text
    from medi.study.proposing import CLASSES_ALONE, look, propose

    if out.exists():
        raise MediError(f"{out}: is there already; delete it, or choose another --out")
    ask = not yes and sys.stdin.isatty()
    found = look(source.path, source.kind, source.options)
    if ask:
        found = _ask_for_roles(found)
    try:
        made = propose(found)
    except MediError as error:
        if CLASSES_ALONE not in str(error):
            raise
        _write_table(found, out.with_name("metadata.csv"))
        return
    if ask:
        made = _ask_for_study(made)
    if ask:
        made = _ask_for_missing(made)
    _check(file_text(made, out), out)
    _show(made)
    say(f"study file: {out}")
    next_step("run", out, "--dry-run")


def _ask_for_roles(found: "Look") -> "Look":
    """Class, patient and slide of a table, as a person says."""
    if found.kind != "table":
        return found
    say("the columns are " + ", ".join(found.columns))
    questions = {"label": "class", "patient": "patient", "slide": "slide"}
    answers = {role: _column(f"Which column is the {what}?", found, role) for role, what in questions.items()}
    return found.changed(**answers)


def _column(question: str, found: "Look", role: str) -> str:
    answer = _choose(question, [*found.columns, *([] if role == "label" else [NONE])], found.options[role] or NONE)
    return "" if answer == NONE and NONE not in found.columns else answer


def _ask_for_study(made: "Proposal") -> "Proposal":
    """What the class is crossed with."""
    from medi.study.proposing import propose

    known = [*made.attributes, *made.others]
    if len(known) == 1:
        return made
    say("what differs between patches beside the class, such as the hospital: " + ", ".join(known))
    answer = _choose("Which of these shall be studied?", known, known[0])
    return made if answer == known[0] else propose(made.look, answer)


def _ask_for_missing(made: "Proposal") -> "Proposal":
    """Whether levels that look like "not known" are read as that."""
    from medi.study.proposing import propose

    named = "; ".join(f"{', '.join(texts)} in {name}" for name, texts in made.missing.items())
    if not named or not typer.confirm(printable(f"Does this mean 'not known': {named}?"), default=True):
        return made
    spellings = {name: list(texts) for name, texts in made.missing.items()}
    return propose(made.look.changed(missing=spellings), made.attributes[0])


def _choose(question: str, known: Sequence[str], usual: str) -> str:
    """One of the known answers; a slip is answered with the nearest."""
    shown = {printable(name): name for name in known}
    while (answer := typer.prompt(question, default=printable(usual)).strip()) not in shown:
        near = get_close_matches(answer, list(shown), 1)
        say(f"{answer!r} is none of them" + (f"; did you mean {near[0]}?" if near else f": {', '.join(shown)}"))
    return shown[answer]


def _check(text: str, out: Path) -> None:
    """Write the file once it is read as a study; nothing is left where it is not."""
    from medi.core.files import write_text
    from medi.study.settings import read_study
    from medi.study.sources import source_of

    write_text(out, text)
    try:
        source_of(read_study(out)).check()
    except MediError:
        out.unlink()
        raise


def _show(made: "Proposal") -> None:
    """What was found, a line each; in red what must not be passed over."""
    cohort, table = made.cohort, made.cohort.table
    say(f"{len(cohort):,} images, read as {made.look.kind}; patches of {made.size} px ({made.mode}), {made.preset}")
    for name in ("class", *made.attributes):
        counts = table[name].value_counts()
        say(
            f"{name}: {len(counts)} levels: "
            + ", ".join(f"{level or '(not known)'} {n:,}" for level, n in counts.items())
        )
    for text in cohort.warnings:
        warn(text)
    for name, texts in made.missing.items():
        warn(f"{name}: {', '.join(texts)} look like 'not known' but are levels; the study file shows the line for it")


def _write_table(found: "Look", table: Path) -> None:
    """Folders of classes: a table in which a person fills in what the folders do not say."""
    from medi.core.files import write_text
    from medi.study.proposing import CLASSES_ALONE

    if table.exists():
        raise MediError(f"{found.path}: {CLASSES_ALONE}; {table} is there already: fill it in, and use it as SOURCE")
    rows = found.read().table.reindex(columns=list(TO_FILL), fill_value="").assign(patient="", slide="")
    write_text(table, rows.to_csv(index=False, lineterminator="\n"))
    warn(CLASSES_ALONE)
    say(f"table: {table}; fill in site (or another attribute), patient and slide, then:")
    next_step("init", table, "--root", found.path)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_source(init))
