"""The verb demo: the whole study on the embedded phantom cohort."""

from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.options import Redo, RunOut, Seed, with_device
from medi.cli.run import run_and_show


def demo(
    out: RunOut = Path("medi-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="The same road with a tiny budget, about a minute.")] = False,
    seed: Seed = 0,
    redo: Redo = False,
) -> None:
    """The whole study on the embedded phantom, in less than an hour.

    The phantom is procedural tissue of four classes at eight sites. The minutes are those of two cores.

    Example: medi demo --out my-demo
    """
    from medi.study.settings import embedded_study

    run_and_show(embedded_study(quick).model_copy(update={"seed": seed}), out, redo)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(demo))
