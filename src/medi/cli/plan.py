"""The verb plan: which images to sample."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medi.cli.help import add
from medi.cli.next_step import after_reading, next_step
from medi.cli.options import TIMES, HeldOut, Over, Seed, check_fits, folder, given, one_of
from medi.cli.source import written_by
from medi.cli.terminal import console, printable, say
from medi.core.errors import MediError
from medi.core.lists import split_at, split_commas

if TYPE_CHECKING:
    from medi.cohort.plan import Plan
    from medi.cohort.table import Cohort

RULES: dict[str, tuple[str, ...]] = {  # and the options each takes
    "balance": ("to", "cap", "minimum", "allow_unseen"),
    "union": ("n",),
    "match": ("n",),
    "held-out": ("n", "allow_unseen"),
    "combinations": ("n", "allow_unseen", "wanted"),
    "table": ("allow_unseen", "table"),
}
NEEDED = {"union": "n", "held-out": "n", "combinations": "n", "table": "table"}


def plan(
    holdout: HeldOut,
    out: Annotated[Path, folder("plan and rows")] = Path("medi-plan"),
    rule: Annotated[
        str | None,
        typer.Option("--rule", help=f"{', '.join(RULES)}.", show_default="balance", autocompletion=one_of(*RULES)),
    ] = None,
    over: Over = None,
    to: Annotated[
        int | None, typer.Option(min=1, help="balance: images of each combination.", show_default="the largest one's")
    ] = None,
    cap: Annotated[int | None, typer.Option(min=1, help="balance: at most so many.")] = None,
    minimum: Annotated[int | None, typer.Option(min=0, help="balance: sample at least so many of each.")] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n", "--n", min=1, help="Images per combination; match: per class.", show_default="match: as real"
        ),
    ] = None,
    wanted: Annotated[
        list[str] | None,
        typer.Option(metavar="LEVELS", help="combinations: 'LUAD x Asterand', in the order of --over."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="table: CSV of columns and their count n.", show_default=False)
    ] = None,
    allow_unseen: Annotated[bool, typer.Option("--allow-unseen", help="Levels that training never saw, too.")] = False,
    seed: Seed = 0,
) -> None:
    """Which images to sample, counted from training patches only.

    balance: every combination filled; union: each class at the union of the sites; match: the real marginals;
    held-out: what the hold-out took away; combinations; table. Writes plan.parquet and rows.parquet, a row per image.

    Example: medi plan my-holdout --rule balance --to 500 --out my-plan
    """
    from medi.cohort.plan import write_rows
    from medi.cohort.table import Cohort

    options = given(to=to, cap=cap, minimum=minimum or None, n=n, wanted=wanted or None, table=table)
    options |= given(allow_unseen=allow_unseen or None)
    kind = rule or ("table" if table else "combinations" if wanted else "balance")
    check_fits(kind, RULES, options)
    if kind in NEEDED and NEEDED[kind] not in options:
        raise MediError(f"--rule {kind} needs --{NEEDED[kind]}")
    if not (holdout / "cohort.json").exists():
        raise MediError(f"{holdout}: no cohort folder; {written_by('holdout', holdout)}, with a split")
    cohort = Cohort.load(holdout)
    made = _plan(kind, cohort, holdout, split_commas(over or []), options)
    rows = made.expand(seed)
    made.save(out)
    write_rows(out, rows)
    _show(made)
    say(f"plan: {out}")
    _say_next(cohort, holdout, out)


def _say_next(cohort: "Cohort", holdout: Path, out: Path) -> None:
    """Sample with the model of these patches, or make one."""
    from medi.study.beside import model_of

    if (model := model_of(cohort, out)) is not None:
        next_step("sample", model, out)
    elif cohort.pixels is not None or cohort.has_features or cohort.info.get("root"):
        after_reading(cohort, holdout)
    else:
        say("a model needs images, and none are known here; name their column (--image) when reading the source")


def _plan(kind: str, cohort: "Cohort", folder: Path, over: Sequence[str], given: dict[str, Any]) -> "Plan":
    from medi.cohort import plan as plans
    from medi.cohort.holdout import Holdout
    from medi.cohort.plan import Plan
    from medi.cohort.readers.rows import read_rows

    table, schema = cohort.table, cohort.schema
    if kind == "table":
        return plans.from_table(table, schema, read_rows(given.pop("table")), **given)
    if kind == "held-out":
        found = Holdout.load(folder)
        return plans.combinations(table, schema, found.held_out, over=found.certificate["columns"], **given)
    if kind == "combinations":
        wanted = [tuple(split_at(text, TIMES)) for text in given.pop("wanted", [])]
        return plans.combinations(table, schema, wanted, over=over, **given)
    rules: dict[str, Callable[..., Plan]] = {"balance": plans.balance, "union": plans.union, "match": plans.match}
    return rules[kind](table, schema, over=over, **given)


def _show(made: "Plan") -> None:
    title = Text(printable(f"{len(made):,} images over {', '.join(made.over)}"))
    table = Table(title=title, title_justify="left")
    for name in ("what it asks of the model", "combinations", "real", "to sample", "into training"):
        table.add_column(name, justify="left" if name.startswith("what") else "right")
    for request, rows in made.table.groupby("request"):
        counts = (len(rows), rows["real"].sum(), rows["n"].sum(), rows["fill"].sum())
        table.add_row(str(request), *(f"{count:,}" for count in counts))
    console.print(table)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, plan)
