"""The verb recommend: which remedy fits this cohort."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Cache, EncoderName, Features, OverAll, Real, Seed, folder, given, one_of, with_device
from medi.cli.result_tables import show_recommended
from medi.cli.terminal import Terminal, say
from medi.cli.train import OF_PRESET, PRESETS
from medi.cli.values import columns
from medi.core.errors import MediError
from medi.core.requests import only

if TYPE_CHECKING:
    from medi.api.inner_models import InnerModels


WithModels = Annotated[
    bool, typer.Option("--with-models", help="Train MeDi for each inner hold-out, and judge its images as well.")
]
PresetName = Annotated[
    str | None,
    typer.Option(
        help=f"Of these models: {', '.join(PRESETS)}.", show_default="laptop64", autocompletion=one_of(*PRESETS)
    ),
]
Images = Annotated[
    int | None, typer.Option(min=1, help="Training images drawn for each model.", show_default=OF_PRESET)
]
To = Annotated[
    int | None, typer.Option(min=1, help="Real and sampled images of a combination together.", show_default="200")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of the sampler.", show_default="16")]
Draws = Annotated[int | None, typer.Option(min=1, max=4, help="Inner hold-outs that are asked.", show_default="4")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what the models would cost; write nothing.")]


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
    with_models: WithModels = False,
    preset: PresetName = None,
    images: Images = None,
    to: To = None,
    steps: Steps = None,
    draws: Draws = None,
    dry_run: DryRun = False,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Which remedy fits this cohort.

    Combinations of the training patches are left out again, and other patients of those that stay. Every remedy, a
    training set under a head, must tell the classes there. The test patches stay closed, unless --open-holdout says
    otherwise.

    MeDi is not judged by default, as it needs a model of every inner hold-out. --with-models trains these on what each
    inner hold-out keeps, and says first what that costs. They are kept in the folder, and the same command goes on.

    Example: medi recommend my-packed --out my-remedy
    """
    from medi.api.recommending import FILE, cost_of_models
    from medi.api.recommending import recommend as found_for
    from medi.core.choice import VOTE

    options = given(preset=preset, images=images, to=to, steps=steps, draws=draws)
    models = _models(out, with_models, dry_run, options)
    if models is not None and dry_run:
        say(cost_of_models(real, models, columns(over), features, open_holdout, seed))
        return
    asked: dict[str, Any] = {"over": columns(over), "sets": columns(sets) or [], "heads": columns(heads) or []}
    asked |= {"encoder": encoder, "seed": seed, "open_holdout": open_holdout}
    models_asked = {"with_models": options} if with_models else {}
    given_features = given(features=features and str(features))
    with only(out, "recommend", {"real": real}, **asked, **given_features, **models_asked):
        found = found_for(real, features=features, cache=cache, progress=Terminal(), with_models=models, **asked)
        found.save(out)
    say(found.title)
    show_recommended(found.to_frame())
    for remark in found.remarks:
        say(remark)
    say(f"{found.rows:,} real training patches; table: {out / FILE}")
    single = [head for head in found.judged.table["head"] if head != VOTE]
    next_step("utility", real, "--heads", str(single[0]))


def _models(out: Path, with_models: bool, dry_run: bool, options: dict[str, Any]) -> "InnerModels | None":
    """The models that are asked for; options of theirs are refused where none are."""
    if not with_models:
        if odd := [*options, *(["dry_run"] if dry_run else [])]:
            raise MediError(f"--{odd[0].replace('_', '-')} goes with --with-models; add that, or leave this out")
        return None
    from medi.api.inner_models import InnerModels

    return InnerModels.of(out / "models", **options)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(recommend))
