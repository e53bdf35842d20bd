"""The verb run: a study from cohort to report."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.text import Text

from medi.cli.help import add
from medi.cli.jobs import (
    Account,
    Asked,
    Cpus,
    Gpus,
    Mem,
    Nodes,
    On,
    Part,
    Partition,
    PartShard,
    Shards,
    Time,
    Workers,
    begin,
    planned,
    refuse_unheeded,
    show_plan,
    typed,
)
from medi.cli.next_step import NAME, next_step, program
from medi.cli.options import Redo, RunOut, given, with_device
from medi.cli.result_tables import show_remedies
from medi.cli.terminal import WARNING, Terminal, console, say, warn
from medi.cli.values import shard_of
from medi.core.errors import MediError
from medi.core.numbers import digits

if TYPE_CHECKING:
    from medi.study.settings import StudySettings


def _brought(incomplete: str) -> list[str]:
    """The studies that medi brings, for completion."""
    names = sorted(Path(file.name).stem for file in files("medi.study").joinpath("studies").iterdir())
    return [name for name in names if name.startswith(incomplete)]


def run(
    study: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY", help="Study file, or the name of one that medi brings.", autocompletion=_brought
        ),
    ],
    out: RunOut = Path("medi-run"),
    source: Annotated[
        Path | None, typer.Option(help="Cohort in place of the study file's.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed in place of the study file's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    redo: Redo = False,
    on: On = None,
    workers: Workers = None,
    shards: Shards = None,
    partition: Partition = "",
    gpus: Gpus = 0,
    nodes: Nodes = 1,
    cpus: Cpus = 4,
    time: Time = "24:00:00",
    mem: Mem = "",
    account: Account = "",
    part: Part = None,
    shard: PartShard = "0/1",
) -> None:
    """A study from cohort to report, stage after stage.

    STUDY is a YAML file, every key of which is optional, or one of: demo, demo_long, quick, ami_br, ami_br_2,
    ami_br_long, ami_br_64, ami_br_2_64, ami_br_laptop64, ami_br_128, wbc, tcga_fields, tcga_ut. With --on the stages
    are jobs; --dry-run prints them.

    Example: medi run my-study.yaml --out my-run
    """
    from medi.study.settings import find_study

    _check_part(part, shard, dry_run, on)
    settings = find_study(study, source, seed)
    command = _command(study, out, source=source, seed=seed)
    place = on or (_place() if part is None else "")
    asked = Asked(place, command, workers, shards, gpus, nodes, cpus, time, mem, partition, account, redo)
    refuse_unheeded(asked)
    if part is not None:
        _do_part(settings, out, part, shard, redo)
        return
    if on is None and dry_run:
        _rehearse(settings)
        next_step(*command)
        return
    if not place:
        run_and_show(settings, out, redo)
        return
    if dry_run:
        show_plan(planned(settings, asked))
        next_step(*command, *typed(asked), *(["--redo"] if redo else []))
        return
    begin(settings, asked, out)
    run_and_show(settings, out, redo) if place == "local" else next_step("status", out)


def _command(study: Path, out: Path, **options: object) -> list[str]:
    """The verb as it was typed, without what says where it runs."""
    words = [str(word) for name, value in given(**options).items() for word in (f"--{name}", value)]
    return ["run", str(study), *words, "--out", str(out)]


def _place() -> str:
    """Where a study runs: as jobs of this machine where it shows several GPUs, else in this process ("")."""
    from medi.core.devices import visible_gpus

    return "local" if len(visible_gpus()) > 1 else ""


def _rehearse(settings: "StudySettings") -> None:
    from medi.study.rehearsal import rehearse

    for line in rehearse(settings):
        show = warn if line.startswith(WARNING) else say
        show(line.removeprefix(WARNING))


def _check_part(part: str | None, shard: str, dry_run: bool, on: str | None) -> None:
    """Refuse options that do not go with a part, which is done here and now; and a share of what is not cut."""
    from medi.study.parts import MEASURE, PREPARE

    if part is None and shard != "0/1":
        raise MediError("--shard goes with --part; name the part that it is a share of")
    if part is not None and (dry_run or on is not None):
        raise MediError(f"--part does one part here and now; leave {'--dry-run' if dry_run else '--on'} out")
    if part in (PREPARE, MEASURE) and shard_of(shard) != (0, 1):
        raise MediError(f"--part {part} is not cut into shards; leave --shard out")


def _do_part(settings: "StudySettings", out: Path, part: str, shard: str, redo: bool) -> None:
    """One part of a study, as a job does it."""
    from medi.study.parts import MEASURE, PREPARE, do_part, prepare

    terminal = Terminal()
    if part == PREPARE:
        prepare(settings, out, terminal, redo)
    elif part == MEASURE:
        run_and_show(settings, out, redo)
        return
    else:
        with terminal.bars(part) as (advance,):
            do_part(settings, out, part, shard_of(shard), advance, terminal)
    say(f"{part}{'' if shard == '0/1' else f' {shard}'}: done")


def run_and_show(settings: "StudySettings", out: Path, redo: bool) -> None:
    """Run a study with bars, then show its verdict and its table."""
    import pandas as pd

    from medi.figures.names import arm_name
    from medi.study.stages import RECORD
    from medi.study.study import run as run_study
    from medi.study.upkeep import LOG

    terminal = Terminal(keep=out / LOG)
    if (out / RECORD).exists():
        terminal.open_log()
    results = run_study(settings, out, redo=redo, show=terminal)
    if settings.note:
        console.print(Panel(Text(settings.note), title="NOTE", border_style="bold red", title_align="left"))
    for sentence in results.verdict:
        say(sentence)
    show_remedies(pd.DataFrame(results.remedies), results.title_of_study)
    distances = {name: value for name, value in results.frechet.get("unseen", {}).items() if value is not None}
    shown = ", ".join(f"{arm_name(name)} {digits(value)}" for name, value in distances.items())
    say(f"Frechet distance on unseen combinations: {shown or 'none, as there are too few images'}")
    say(f"report: {results.report}")
    if program() != NAME:
        say(f"the shell does not find medi; call it as {program()}")
    next_step(*(("app", out) if find_spec("gradio") else ("status", out)))


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(run))
