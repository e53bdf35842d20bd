"""The verb holdout: combinations taken away from training, with a certificate, and its check."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medi.cli.help import add_several
from medi.cli.next_step import after_reading, next_step
from medi.cli.options import TIMES, Over, Seed, check_fits, folder, given, one_of
from medi.cli.source import Source, with_source
from medi.cli.terminal import console, say, warn
from medi.core.errors import MediError
from medi.core.lists import split_at, split_commas

if TYPE_CHECKING:
    from medi.cohort.holdout import Holdout
    from medi.cohort.rule import Rule
    from medi.cohort.table import Cohort

RULES: dict[str, tuple[str, ...]] = {  # and the options that go with each alone
    "random": ("rate",),
    "named": ("held", "set_aside"),
    "sites": ("folds", "fold"),
    "published": (),
}
SHOWN = 12  # combinations in a line


def design(
    source: Source,
    out: Annotated[Path, folder("the cohort with its split, and the certificate")] = Path("medi-holdout"),
    rule: Annotated[
        str | None,
        typer.Option("--rule", help=f"{', '.join(RULES)}.", show_default="random", autocompletion=one_of(*RULES)),
    ] = None,
    over: Over = None,
    rate: Annotated[float | None, typer.Option(help="random: share of the combinations.", show_default="0.3")] = None,
    min_patients: Annotated[
        int | None, typer.Option(help="Training patients every level keeps.", show_default="1")
    ] = None,
    held: Annotated[
        list[str] | None,
        typer.Option(help="named: a combination 'LUAD x Asterand', or a whole level of one column.", metavar="LEVELS"),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="sites: parts of the levels.", show_default="5")] = None,
    fold: Annotated[int | None, typer.Option(help="sites: the part held out, from 0.", show_default="0")] = None,
    test_seen: Annotated[
        float | None, typer.Option(help="Share of patients for tests of seen combinations.", show_default="0.15")
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of patients for validation.", show_default="0.10")
    ] = None,
    reserve: Annotated[
        float | None, typer.Option(help="Share of training patches for memorisation tests.", show_default="0.02")
    ] = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="named: patients with held-out patches may train, without these.")
    ] = False,
    split_column: Annotated[
        str | None, typer.Option(help="Take a split that came with the data instead.", metavar="COLUMN")
    ] = None,
    split_values: Annotated[
        list[str] | None, typer.Option(help="Its entries: train=0,1 and test=2, repeated.", metavar="SIDE=ENTRIES")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Take the split of this hold-out of the same patches instead.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Take combinations away from training, with a certificate.

    No patient is on two sides. `medi holdout verify` checks the certificate again.

    Example: medi holdout my-audit --over class,site --rate 0.3
    """
    shares = given(test_seen=test_seen, validation=validation, reserve=reserve, set_aside=set_aside or None)
    options = given(rate=rate, min_patients=min_patients, folds=folds, fold=fold) | shares
    if certificate is not None:
        _refuse_options("--certificate", [*options, *given(rule=rule, held=held, split_column=split_column)])
        _make(source, out, partial(_certified, certificate))
    elif split_column is None:
        if split_values:
            raise MediError("--split-values says what the entries of --split-column are; name that column")
        chosen = _rule(rule, split_commas(over or []), held or [], options)
        _make(source, out, lambda cohort: cohort.hold_out(rule=chosen, seed=seed))
    else:
        read = _with_split(source, split_column, [*options, *given(rule=rule, held=held)])
        _make(read, out, partial(_official, split_column, _values(split_values), split_commas(over or [])))


def _make(source: Source, out: Path, split_of: Callable[["Cohort"], "Cohort"]) -> None:
    """Read, split, write and show."""
    from medi.cohort.audit import shortcut

    source.check_out(out)
    cohort = source.read()
    split = split_of(cohort)
    source.check_cohort(split, out)
    split.holdout.save(out)
    split.save(out)
    _show(split.holdout)
    for caution in split.holdout.cautions():
        warn(caution)
    for line in shortcut(cohort.audit(), split.audit(split="train")) if (split.table["split"] == "train").any() else ():
        say(f"training patches: {line}")
    say(f"hold-out: {out}")
    after_reading(split, out)


def _refuse_options(taken: str, options: Sequence[str]) -> None:
    """Options of a hold-out that is made here say nothing where one is taken."""
    if options:
        raise MediError(f"{taken} takes the split as it is; --{options[0].replace('_', '-')} does not go with it")


def _certified(folder: Path, cohort: "Cohort") -> "Cohort":
    """The cohort with the split of a hold-out that lies in a folder, which must hold for it."""
    from medi.cohort.holdout import Holdout

    found = Holdout.load(folder)
    split = found.apply_to(cohort)
    if problems := found.verify(split.table):
        raise MediError(f"{folder}: the certificate does not hold for these patches: {problems[0]}")
    return split


def _with_split(source: Source, column: str, options: Sequence[str]) -> Source:
    """The source, read with a split that came with it; options of a hold-out that is made here say nothing then."""
    _refuse_options("--split-column", options)
    is_read = (source.path / "cohort.json").exists()
    return source if is_read else replace(source, options={**source.options, "split_column": column})


def _official(column: str, sides: Mapping[str, list[str]], over: Sequence[str], cohort: "Cohort") -> "Cohort":
    """The cohort with the split that a column of it tells."""
    return cohort.official_split(_column(cohort, column), sides, over)


def _column(cohort: "Cohort", name: str) -> str:
    """Where a column of the source stands in the table."""
    official = "official_split"
    return official if name == "split" and official in cohort.table else name


def _values(given: Sequence[str] | None) -> dict[str, list[str]]:
    """{"train": ["0", "1"]} from train=0,1."""
    pairs = [text.partition("=") for text in given or ()]
    if wrong := next((text for text, pair in zip(given or (), pairs) if not (pair[0] and pair[2])), None):
        raise MediError(f"--split-values {wrong!r}: expected SIDE=ENTRIES, such as train=0,1")
    return {side: split_commas([own]) for side, _, own in pairs}


def _rule(kind: str | None, over: Sequence[str], held: Sequence[str], options: Mapping[str, Any]) -> "Rule":
    from medi.cohort.rule import Rule

    kind = kind or ("named" if held else "random")
    check_fits(kind, RULES, [*options, *(["held"] if held else [])])
    if kind == "published":
        if len(over) not in (0, 3):
            raise MediError("--rule published is over site, gender and race: name these three columns in --over")
        return replace(Rule.published(*over), **options)
    combinations = tuple(tuple(split_at(text, TIMES)) for text in held)
    return Rule(kind, tuple(over), held=combinations, **options)  # type: ignore[arg-type]


def _show(found: "Holdout") -> None:
    c = found.certificate
    table = Table(title=f"{len(c['held_out'])} of {c['combinations']} combinations held out", title_justify="left")
    for name in ("", "patches", "slides", "patients"):
        table.add_column(name, justify="right" if name else "left")
    for split, n in c["rows"].items():
        table.add_row(split, f"{n:,}", f"{c['slides'][split]:,}", f"{c['patients'][split]:,}")
    console.print(table)
    _list("held out", c["held_out"])
    _list("left without a training patch as well, as their patients are held out", c["emptied"])
    _list("classes without training patches", [[name] for name in c["untrained_classes"]])


def _list(what: str, combinations: Sequence[Sequence[str]]) -> None:
    if combinations:
        more = f", ... ({len(combinations)} in all)" if len(combinations) > SHOWN else ""
        say(f"{what}: {', '.join(TIMES.join(levels) for levels in combinations[:SHOWN])}{more}")


def verify(
    source: Source,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the hold-out.", show_default="SOURCE itself")
    ] = None,
) -> None:
    """Check data against the certificate of a hold-out.

    Patients are on one side each; counts, ids and labels are as certified. Without --certificate SOURCE is the folder
    of the hold-out. With it, SOURCE is the data that the hold-out was made of. What does not hold is told line by
    line; the exit code is then 1.

    Example: medi holdout verify metadata.csv --certificate my-holdout
    """
    from medi.cohort.holdout import Holdout, has_split

    found = Holdout.load(certificate or source.path)
    cohort = source.read()
    table = cohort.table
    is_split = has_split(table)
    problems = found.verify(table if is_split else found.apply(table))
    for problem in problems:
        say(f"does not hold: {problem}")
    if problems:
        raise typer.Exit(1)
    told = found.cautions() if found.certificate["rule"]["kind"] == "official" else []
    sides = "" if told else ", none on two sides"
    say(f"the certificate holds: {len(table):,} patches, {table['patient'].nunique():,} patients{sides}")
    for line in told:
        warn(line)
    if certificate is None or (is_split and (source.path / "cohort.json").exists()):
        after_reading(cohort, source.path)
    elif (certificate / "cohort.json").exists():
        after_reading(found.apply_to(cohort), certificate)
    else:
        next_step("holdout", source.path, "--certificate", certificate)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add_several(app, "holdout", [with_source(design), with_source(verify)])
