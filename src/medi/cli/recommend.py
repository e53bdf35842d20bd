"""The verb recommend: which remedy fits this cohort."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Cache, EncoderName, Features, OverAll, Real, Seed, folder, given, with_device
from medi.cli.terminal import Terminal, say
from medi.cli.values import columns
from medi.core.requests import only


def recommend(
    real: Real,
    out: Annotated[Path, folder("the table")] = Path("medi-recommend"),
    over: OverAll = None,
    sets: Annotated[
        list[str] | None, typer.Option(help="real, macenko, reinhard: a,b or repeated.", show_default="real,macenko")
    ] = None,
    heads: Annotated[
        list[str] | None, typer.Option(help="Heads such as logistic,two_way,crm.", show_default="all")
    ] = None,
    encoder: EncoderName = "colour-texture",
    features: Features = None,
    open_holdout: Annotated[
        bool, typer.Option("--open-holdout", help="Open the true hold-out as well, and tell the regret.")
    ] = False,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Which remedy without a generator fits this cohort.

    Combinations of the training patches are left out again, and other patients of those that stay. Every remedy, a
    training set under a head, must tell the classes there. The test patches stay closed, unless --open-holdout says
    otherwise. MeDi itself is not judged: it would need a model of every inner hold-out.

    Example: medi recommend my-packed --out my-remedy
    """
    from medi.api.recommending import FILE
    from medi.api.recommending import recommend as found_for

    asked: dict[str, Any] = {"over": columns(over), "sets": columns(sets) or [], "heads": columns(heads) or []}
    asked |= {"encoder": encoder, "seed": seed, "open_holdout": open_holdout}
    with only(out, "recommend", {"real": real}, **asked, **given(features=features and str(features))):
        found = found_for(real, features=features, cache=cache, progress=Terminal(), **asked)
        found.save(out)
    say(str(found))
    say(f"{found.rows:,} real training patches; table: {out / FILE}")
    next_step("utility", real, "--heads", str(found.judged.table["head"].iloc[0]))


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(recommend))
