"""The verbs of the cohort wing: audit, holdout, plan, pack. Each writes a folder that the next one reads."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from medi.cli.source import Source, split_commas, with_source
from medi.cli.terminal import Terminal, console, printable, say
from medi.core.errors import MediError

if TYPE_CHECKING:
    from medi.cohort.audit import Audit
    from medi.cohort.holdout import Holdout, Rule
    from medi.cohort.plan import Plan
    from medi.cohort.table import Cohort

Over = Annotated[
    list[str] | None,
    typer.Option(
        "--over", metavar="COLUMN", help="Columns of a combination: a,b; default the class x first attribute."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0)]
TIMES = " x "  # between the levels of a combination, here and in every message


def _out(what: str) -> Any:
    return typer.Option("--out", help=f"Folder for {what}.")


# --- audit ------------------------------------------------------------------------------------------------------------


def audit(source: Source, out: Annotated[Path, _out("cohort, tables, JSON and PNG")] = Path("medi-audit")) -> None:
    """How skewed a cohort is, and which attribute gives the class away.

    Writes the cohort (the next verb's SOURCE), audit.json, counts.png, attributes.png and the tables as Parquet.

    Example: medi audit metadata.csv --label diagnosis --attributes site,scanner --out my-audit
    """
    from medi.cohort.audit import audit as examine

    _check_out(source.path, out)
    cohort = source.read()
    found = examine(cohort.table, cohort.schema)
    found.save(out)
    _keep(cohort, source.path, out)
    _show_audit(found)
    say(f"audit: {out}")


def _same(out: Path, source: Path) -> bool:
    return out.resolve() == source.resolve()


def _check_out(source: Path, out: Path) -> None:
    """A packed cohort is never overwritten by another one's table."""
    if (out / "pixels.npy").exists() and not _same(out, source):
        raise MediError(f"{out} holds a packed cohort that is not {source}; choose another folder for --out")


def _keep(cohort: "Cohort", source: Path, out: Path) -> None:
    """The cohort beside the results; pixels are not copied, they stay in the folder that holds them."""
    (cohort if _same(out, source) else replace(cohort, pixels=None)).save(out)


def _show_audit(found: "Audit") -> None:
    size = ", ".join(f"{found.size[unit]:,} {unit}" for unit in ("patches", "slides", "patients", "classes"))
    console.print(_association(found, size))
    missing = found.missingness.groupby("attribute", sort=False)["missing"].sum()
    for line in (f"{name}: {n:,} rows not known" for name, n in missing[missing > 0].items()):
        say(line)
    for note in found.notes:
        say(note)
    for alarm in found.alarms:
        console.print(Panel(Text(printable(alarm)), title="ALARM", border_style="bold red", title_align="left"))


def _association(found: "Audit", title: str) -> Table:
    """A row per attribute: its combinations with the class, how far it gives the class away."""
    from medi.cohort.audit import ALARM

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("attribute", overflow="fold")
    for name in ("levels", "empty", "rare", "V", "V corr.", "NMI", "1 - H", "class"):
        table.add_column(name, justify="right", no_wrap=True)
    ceiling = found.ceiling.set_index("attribute")["balanced_accuracy"]
    for row in found.association[found.association["unit"] == "patch"].to_dict("records"):
        name, style = row["attribute"], "bold red" if row["determination"] >= ALARM else ""
        gaps = found.size["combinations"][name]
        shares = [row[m] for m in ("cramers_v", "cramers_v_corrected", "nmi", "determination")]
        counts = [row["levels"], gaps["empty"], gaps["rare"]]
        cells = [*(f"{n:,}" for n in counts), *map(_share, [*shares, ceiling[name]])]
        table.add_row(Text(printable(name)), *cells, style=style)
    if len(ceiling) > 1:
        table.add_row("all attributes", *[""] * 7, _share(ceiling["all attributes"]))
    for row in found.continuous.to_dict("records"):
        table.add_row(Text(f"{printable(row['attribute'])} (eta)"), *[""] * 4, _share(row["eta"]), *[""] * 3)
    table.caption = (
        "empty, rare: combinations with the class; V: Cramer's; 1 - H: 1 - H(class | attribute) / H(class); class: its "
        f"balanced accuracy from the attribute, without the image (chance {found.ceiling['chance'].max():.3f})"
    )
    table.caption_justify = "left"
    return table


def _share(value: float) -> str:
    return "undefined" if value != value else f"{value:.3f}"


# --- holdout ----------------------------------------------------------------------------------------------------------


class DesignOrVerify(TyperGroup):
    """`medi holdout SOURCE` designs; only the word `verify` in the first place means the other one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands:
            args = ["design", *args]
        return super().parse_args(ctx, args)


RULES = {  # and what each takes
    "random": ("rate",),
    "named": ("held", "set_aside"),
    "sites": ("folds", "fold"),
    "published": (),
}


def design(
    source: Source,
    out: Annotated[Path, _out("the cohort with its split, and the certificate")] = Path("medi-holdout"),
    rule: Annotated[str | None, typer.Option("--rule", help=f"{', '.join(RULES)}; default random.")] = None,
    over: Over = None,
    rate: Annotated[float | None, typer.Option(help="random: share of the combinations [0.3].")] = None,
    min_patients: Annotated[int | None, typer.Option(help="Training patients every level keeps [1].")] = None,
    held: Annotated[
        list[str] | None,
        typer.Option(help="named: a combination 'LUAD x Asterand', or a whole level of one column.", metavar="LEVELS"),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="sites: parts of the levels [5].")] = None,
    fold: Annotated[int | None, typer.Option(help="sites: the part held out, from 0 [0].")] = None,
    test_seen: Annotated[float | None, typer.Option(help="Patients for tests of seen combinations [0.15].")] = None,
    validation: Annotated[float | None, typer.Option(help="Patients for validation [0.10].")] = None,
    reserve: Annotated[float | None, typer.Option(help="Training patches for copy tests [0.02].")] = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="named: patients with held-out patches may train, without these.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Take combinations away from training, patients never split, with a certificate.

    Check it again with: medi holdout verify my-holdout, or against the data: see medi holdout verify --help

    Example: medi holdout my-audit --over class,site --rate 0.3 --out my-holdout
    """
    from medi.cohort.holdout import design as find

    given = {"rate": rate, "min_patients": min_patients, "folds": folds, "fold": fold}
    given |= {"test_seen": test_seen, "validation": validation, "reserve": reserve, "set_aside": set_aside or None}
    chosen = _rule(rule, split_commas(over or []), held or [], {n: v for n, v in given.items() if v is not None})
    _check_out(source.path, out)
    cohort = source.read()
    found = find(cohort.table, cohort.schema, chosen, seed)
    found.save(out)
    _keep(replace(cohort, table=found.apply(cohort.table)), source.path, out)
    _show_holdout(found)
    say(f"hold-out: {out}")


def _rule(kind: str | None, over: Sequence[str], held: Sequence[str], given: dict[str, Any]) -> "Rule":
    from medi.cohort.holdout import Rule

    kind = kind or ("named" if held else "random")
    if kind not in RULES:
        raise MediError(f"--rule {kind!r}: expected {', '.join(RULES)}")
    takes = {name: rule for rule, names in RULES.items() for name in names}
    for name in (*given, *(["held"] if held else [])):
        if takes.get(name, kind) != kind:
            raise MediError(f"--{name.replace('_', '-')} goes with --rule {takes[name]}, not {kind}")
    if kind == "published":
        if len(over) not in (0, 3):
            raise MediError("--rule published is over site, gender and race: name these three columns in --over")
        return replace(Rule.published(*over), **given)
    combinations = tuple(tuple(text.split(TIMES)) for text in held)
    return Rule(kind, tuple(over), held=combinations, **given)  # type: ignore[arg-type]


def _show_holdout(found: "Holdout") -> None:
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


def _list(what: str, combinations: Sequence[Sequence[str]], shown: int = 12) -> None:
    if combinations:
        more = f", ... ({len(combinations)} in all)" if len(combinations) > shown else ""
        say(f"{what}: {', '.join(TIMES.join(levels) for levels in combinations[:shown])}{more}")


def verify(
    source: Source,
    certificate: Annotated[
        Path | None, typer.Option(help="Folder of the hold-out; default SOURCE itself.", show_default=False)
    ] = None,
) -> None:
    """Hold data against the certificate of a hold-out: patients whole, counts, ids and labels as certified.

    Without --certificate SOURCE is the folder of the hold-out; with it, the data that the hold-out was made of. What
    does not hold is told line by line; exit code 1.

    Example: medi holdout verify metadata.csv --certificate my-holdout
    """
    from medi.cohort.holdout import Holdout
    from medi.cohort.holdout import verify as check

    found = Holdout.load(certificate or source.path)
    table = source.read().table
    problems = check(table if "split" in table else found.apply(table), found.certificate)
    for problem in problems:
        say(f"does not hold: {problem}")
    if problems:
        raise typer.Exit(1)
    say(f"the certificate holds: {len(table):,} patches, {table['patient'].nunique():,} patients, none on two sides")


# --- plan -------------------------------------------------------------------------------------------------------------

PLANS = {  # and the options each takes
    "balance": ("to", "cap", "minimum", "allow_unseen"),
    "union": ("n",),
    "match": ("n",),
    "held-out": ("n", "allow_unseen"),
    "combinations": ("n", "allow_unseen", "wanted"),
    "table": ("allow_unseen", "table"),
}
Folder = Annotated[Path, typer.Argument(metavar="HOLDOUT", help="Cohort folder with a split (medi holdout).")]


def plan(
    holdout: Folder,
    out: Annotated[Path, _out("plan and rows")] = Path("medi-plan"),
    rule: Annotated[str | None, typer.Option("--rule", help=f"{', '.join(PLANS)}; default balance.")] = None,
    over: Over = None,
    to: Annotated[int | None, typer.Option(min=1, help="balance: count [the largest combination's].")] = None,
    cap: Annotated[int | None, typer.Option(min=1, help="balance: at most so many.")] = None,
    minimum: Annotated[int | None, typer.Option(min=0, help="balance: sample at least so many of each.")] = None,
    n: Annotated[
        int | None, typer.Option("-n", "--n", min=1, help="Images per combination (match: per class) [match: as real].")
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
    """Which images to sample, and what each asks of the model; counts come from training rows only.

    balance: every combination filled; union: each class at the union of the sites; match: the real marginals;
    held-out: what the hold-out took away; combinations; table. Writes plan.parquet and rows.parquet, a row per image.

    Example: medi plan my-holdout --rule balance --to 500 --out my-plan
    """
    from medi.cohort.table import Cohort
    from medi.core.files import write_table

    given: dict[str, Any] = {"to": to, "cap": cap, "minimum": minimum, "n": n, "wanted": wanted, "table": table}
    given = {name: value for name, value in (given | {"allow_unseen": allow_unseen or None}).items() if value}
    kind = rule or ("table" if table else "combinations" if wanted else "balance")
    _check_plan(kind, given)
    if not (holdout / "cohort.json").exists():
        raise MediError(f"{holdout}: no cohort folder; `medi holdout SOURCE --out {holdout}` writes one with a split")
    made = _plan(kind, Cohort.load(holdout), holdout, split_commas(over or []), given)
    rows = made.expand(seed)
    made.save(out)
    write_table(out / "rows.parquet", rows)
    _show_plan(made)
    say(f"plan: {out}")


def _check_plan(kind: str, given: dict[str, Any]) -> None:
    if kind not in PLANS:
        raise MediError(f"--rule {kind!r}: expected {', '.join(PLANS)}")
    for name in given:
        if name not in PLANS[kind]:
            fitting = ", ".join(rule for rule, names in PLANS.items() if name in names)
            raise MediError(f"--{name.replace('_', '-')} goes with --rule {fitting}, not {kind}")
    needed = {"union": "n", "held-out": "n", "combinations": "n", "table": "table"}.get(kind)
    if needed and needed not in given:
        raise MediError(f"--rule {kind} needs --{needed}")


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
        wanted = [tuple(text.split(TIMES)) for text in given.pop("wanted", [])]
        return plans.combinations(table, schema, wanted, over=over, **given)
    rules: dict[str, Callable[..., Plan]] = {"balance": plans.balance, "union": plans.union, "match": plans.match}
    return rules[kind](table, schema, over=over, **given)


def _show_plan(made: "Plan") -> None:
    title = Text(printable(f"{len(made):,} images over {', '.join(made.over)}"))
    table = Table(title=title, title_justify="left")
    for name in ("what it asks of the model", "combinations", "real", "to sample", "into training"):
        table.add_column(name, justify="left" if name.startswith("what") else "right")
    for request, rows in made.table.groupby("request"):
        counts = (len(rows), rows["real"].sum(), rows["n"].sum(), rows["fill"].sum())
        table.add_row(str(request), *(f"{count:,}" for count in counts))
    console.print(table)


# --- pack -------------------------------------------------------------------------------------------------------------


def pack(
    source: Source,
    size: Annotated[int, typer.Option(min=1, help="Side of the packed patches in pixels.")],
    out: Annotated[Path, _out("the packed cohort; the same command goes on where it stopped")] = Path("medi-packed"),
    mode: Annotated[str, typer.Option(help="resize (square images), crop (the centre) or tile.")] = "resize",
    to_mpp: Annotated[
        float | None, typer.Option(help="crop, tile: resample to these micrometres per pixel.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes [one per core].", show_default=False)] = None,
) -> None:
    """Decode the images of a cohort once into a store that training reads; resumes after an interruption.

    Example: medi pack my-holdout --size 64 --out my-packed
    """
    from medi.cohort.packing import pack as fill

    cohort = source.read()
    if cohort.pixels is not None:
        raise MediError(f"{source.path} is packed already, at {cohort.pixels.size} pixels; pack its source again")
    if not cohort.info.get("root"):
        raise MediError(f"{source.path}: no images are known here; name their column (--image) when reading the source")
    fit: dict[str, Any] = {"mode": mode, "mpp": to_mpp, "workers": workers, "on_error": source.on_error}
    with Terminal().bars("packing") as (advance,):
        packed = fill(cohort, Path(cohort.info["root"]), out, size, progress=advance, **fit)
    skipped = packed.info["packing"]["skipped"]
    for found in skipped:
        say(f"left out: {found['image']}: {found['reason']}")
    say(f"packed: {len(packed):,} patches of {size} px, {len(skipped):,} images left out: {out}")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command `medi`."""
    holdout = typer.Typer(cls=DesignOrVerify, no_args_is_help=True, rich_markup_mode=None)
    app.command()(with_source(audit))
    app.add_typer(holdout, name="holdout", help="Take combinations away from training, with a certificate.")
    holdout.command()(with_source(design))
    holdout.command()(with_source(verify))
    app.command()(plan)
    app.command()(with_source(pack))
