"""The verb audit: how skewed a cohort is, and which attribute gives the class away."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from medi.cli.help import add
from medi.cli.next_step import after_reading, next_step
from medi.cli.options import folder
from medi.cli.source import Source, with_source
from medi.cli.terminal import Terminal, console, printable, say, warn

if TYPE_CHECKING:
    from medi.cohort.audit import Audit
    from medi.cohort.table import Cohort

NO_ATTRIBUTE = (
    "no attribute is known (hospital, scanner, laboratory): whether one gives the class away, and which combinations "
    "are missing, cannot be judged; name columns with --attributes, or give a table that has them"
)
STYLES = {"caution": "yellow", "strong": "red", "alarm": "bold red"}  # of a grade


def audit(
    source: Source,
    out: Annotated[Path, folder("cohort, tables, JSON and PNG")] = Path("medi-audit"),
    discover: Annotated[
        bool, typer.Option("--discover", help="Find acquisition groups in colour and sharpness (column derived).")
    ] = False,
) -> None:
    """How skewed a cohort is; which attribute gives the class away.

    Writes the cohort (the next verb's SOURCE), audit.json, counts.png, attributes.png and the tables as Parquet.
    --discover is for a cohort without metadata: slides of one colour and sharpness become a level of the column
    `derived`. They may be scanners, and they may be biology.

    Example: medi audit metadata.csv --label diagnosis --attributes site
    """
    source.check_out(out)
    cohort = source.read(with_notes=True)
    cohort = _discovered(cohort, source.on_error) if discover else cohort
    source.check_cohort(cohort, out)
    found = cohort.audit()
    found.save(out)
    cohort.save(out)
    _show(found, cohort.warnings)
    say(f"audit: {out}")
    is_blind = not cohort.schema.attributes and not (source.path / "cohort.json").exists()
    if is_blind:
        next_step("init", source.path)
    else:
        after_reading(cohort, out)


def _discovered(cohort: "Cohort", on_error: "Literal['skip', 'fail']") -> "Cohort":
    """The cohort with the groups that its images show; what was found is told."""
    with Terminal().bars("looking at images") as (advance,):
        found = cohort.discover(on_error=on_error, progress=advance)
    for note in found.notes[len(cohort.notes) :]:
        say(note)
    return found


def _show(found: "Audit", told: Sequence[str]) -> None:
    """The table, the notes but those told before, the alarms."""
    size = ", ".join(f"{found.size[unit]:,} {unit}" for unit in ("patches", "slides", "patients", "classes"))
    if len(found.association) or len(found.continuous):
        console.print(_association(found, size))
    else:
        say(size)
        warn(NO_ATTRIBUTE)
    missing = found.missingness.groupby("attribute", sort=False)["missing"].sum()
    for line in (f"{name}: {n:,} rows not known" for name, n in missing[missing > 0].items()):
        say(line)
    for note in found.notes:
        if note not in told:
            say(note)
    for sentence in found.composing():
        say(sentence)
    for caution in found.cautions():
        warn(caution)
    for alarm in found.alarms:
        console.print(Panel(Text(printable(alarm)), title="ALARM", border_style="bold red", title_align="left"))


def _association(found: "Audit", title: str) -> Table:
    """A row per attribute: its combinations with the class, how far it gives the class away."""
    from medi.cohort.skill import ALL

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("attribute", overflow="fold", min_width=len("attribute"))
    for name in ("levels", "empty", "rare", "V", "V corr.", "1 - H", "class", "grade"):
        table.add_column(name, justify="right", no_wrap=True)
    ceiling, grades = found.ceiling.set_index("attribute")["balanced_accuracy"], found.grades()
    for row in found.association[found.association["unit"] == "patch"].to_dict("records"):
        name, style = row["attribute"], STYLES.get(grades[row["attribute"]], "")
        gaps = found.size["combinations"][name]
        shares = [row[m] for m in ("cramers_v", "cramers_v_corrected", "determination")]
        counts = [row["levels"], gaps["empty"], gaps["rare"]]
        figures = [*(f"{n:,}" for n in counts), *map(_share, [*shares, ceiling[name]])]
        table.add_row(Text(printable(name)), *figures, grades[name], style=style)
    if ALL in ceiling:
        table.add_row(ALL, *[""] * 6, _share(ceiling[ALL]), grades[ALL])
    for row in found.continuous.to_dict("records"):
        table.add_row(Text(f"{printable(row['attribute'])} (eta)"), *[""] * 4, _share(row["eta"]), *[""] * 3)
    table.caption = (
        "empty, rare: combinations with the class; V: Cramer's; 1 - H: 1 - H(class | attribute) / H(class); class: "
        f"balanced accuracy of unseen patients from the attribute, without the image (chance "
        f"{1 / found.size['classes']:.3f}); grade: how far the attribute gives the class away, by the lower limit"
    )
    table.caption_justify = "left"
    return table


def _share(value: float) -> str:
    return "undefined" if value != value else f"{value:.3f}"


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_source(audit))
