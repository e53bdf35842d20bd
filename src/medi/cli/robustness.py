"""The verb robustness: does an encoder see the disease or the hospital?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Cache, EncoderName, Features, Real, Seed, folder, given, with_device
from medi.cli.terminal import Terminal, console, printable, say
from medi.cli.values import columns
from medi.core.requests import only

if TYPE_CHECKING:
    from medi.api.robustness import Robustness


def robustness(
    real: Real,
    out: Annotated[Path, folder("the table")] = Path("medi-robustness"),
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="What should not matter: a,b or repeated.", show_default="the first attribute"),
    ] = None,
    encoder: EncoderName = "colour-texture",
    features: Features = None,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Does an encoder see the disease or the hospital?

    RI, MaRI and CRoMa look at neighbours, the clustering score at clusters, APD and nIPD at probes whose training
    confounds class and site more and more. The table says how each is read, and what is undefined and why.

    Example: medi robustness my-packed --encoder imagenet --attribute site
    """
    from medi.api.robustness import robustness as measured

    asked = {"attribute": columns(attribute), "encoder": encoder, "seed": seed}
    with only(out, "robustness", {"real": real}, **asked, **given(features=features and str(features))):
        found = measured(
            real,
            attribute=columns(attribute),
            encoder=encoder,
            features=features,
            cache=cache,
            seed=seed,
            progress=Terminal(),
        )
        found.save(out)
    _show(found)
    say(f"table: {out / 'robustness.parquet'}")
    next_step("audit", real)


def _show(found: "Robustness") -> None:
    from medi.figures.names import metric_name

    table = Table(title=printable(found.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("how it is read", overflow="fold")
    for row in found.to_frame().to_dict("records"):
        table.add_row(
            metric_name(row["metric"]), "-" if row["value"] != row["value"] else f"{row['value']:.3f}", row["reading"]
        )
    console.print(table)
    for remark in found.remarks:
        say(f"  {remark}")


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(robustness))
