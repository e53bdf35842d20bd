"""The verb holdout: combinations taken away from training, with a certificate, and its check."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medi.cli.help import add_several
from medi.cli.next_step import next_step
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
    seed: Seed = 0,
) -> None:
    """Take combinations away from training, with a certificate.

    No patient is on two sides. `medi holdout verify` checks the certificate again.

    Example: medi holdout my-audit --over class,site --rate 0.3
    """
    shares = given(test_seen=test_seen, validation=validation, reserve=reserve, set_aside=set_aside or None)
    options = given(rate=rate, min_patients=min_patients, folds=folds, fold=fold) | shares
    from medi.cohort.audit import shortcut

    chosen = _rule(rule, split_commas(over or []), held or [], options)
    source.check_out(out)
    cohort = source.read()
    source.check_cohort(cohort, out)
    split = cohort.hold_out(rule=chosen, seed=seed)
    split.holdout.save(out)
    kept = source.keep(split, out)
    _show(split.holdout)
    for caution in split.holdout.cautions():
        warn(caution)
    for line in shortcut(cohort.audit(), split.audit(split="train")) if (split.table["split"] == "train").any() else ():
        say(f"training patches: {line}")
    say(f"hold-out: {out}")
    _say_next(kept, out)


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


def _say_next(kept: "Cohort", out: Path) -> None:
    """Patches that are packed can be trained on; images are packed first; features are compared at once."""
    if kept.has_features and kept.pixels is None:
        next_step("utility", out)
    elif kept.pixels is not None:
        next_step("train", out)
    elif kept.info.get("root"):
        next_step("pack", out, "--size", 64)
    else:
        next_step("plan", out)


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
    from medi.cohort.holdout import Holdout

    found = Holdout.load(certificate or source.path)
    cohort = source.read()
    table = cohort.table
    problems = found.verify(table if "split" in table else found.apply(table))
    for problem in problems:
        say(f"does not hold: {problem}")
    if problems:
        raise typer.Exit(1)
    say(f"the certificate holds: {len(table):,} patches, {table['patient'].nunique():,} patients, none on two sides")
    is_split = (source.path / "cohort.json").exists() and "split" in table
    _say_next(cohort, source.path if is_split or certificate is None else certificate)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add_several(app, "holdout", [with_source(design), with_source(verify)])
