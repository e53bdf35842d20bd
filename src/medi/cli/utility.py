"""The verb utility: what synthetic images are worth to a classifier."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import (
    Cache,
    EncoderName,
    Features,
    OverAll,
    Real,
    Seed,
    Synthetic,
    folder,
    given,
    model_file,
    one_of,
    with_device,
)
from medi.cli.result_tables import show_heads, show_remedies, show_sweep
from medi.cli.terminal import Terminal, say
from medi.cli.values import columns, folders, real_and_others, refuse_beside
from medi.core.requests import only

if TYPE_CHECKING:
    from medi.api.results import Utility

HEADS = ("tuned", "medi", "uni")
Swept = Annotated[
    bool, typer.Option("--sweep", help="Sets without a generator as class and site are confounded more and more.")
]


def utility(
    real: Real,
    synthetic: Synthetic = None,
    out: Annotated[Path, folder("the tables")] = Path("medi-utility"),
    over: OverAll = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="nsclc, uterine, kidney, or classes as in A,B; may be repeated.", show_default="all classes"),
    ] = None,
    head: Annotated[
        str, typer.Option(help="Classifier on the features: tuned, medi or uni.", autocompletion=one_of(*HEADS))
    ] = "tuned",
    heads: Annotated[
        list[str] | None,
        typer.Option(help="Every set also under these heads, such as logistic,two_way,crm.", show_default="none"),
    ] = None,
    arms: Annotated[
        list[str] | None, typer.Option(help="What else is compared: all, stains, none or names.", show_default="all")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="More columns for fairness gaps, such as race.", show_default="none")
    ] = None,
    sweep: Swept = False,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of folds and draws; figures are means.")] = 1,
    encoder: EncoderName = "colour-texture",
    features: Features = None,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """What synthetic images are worth to a classifier.

    The same classifier is trained on real patches, on real ones with each synthetic cohort, and on every baseline that
    needs no generator. REAL has the splits of `medi holdout`: train, and test_seen or test_unseen. Of a synthetic
    cohort the images that fill combinations are added (column `fill` of `medi plan`), or all where it does not say.
    Real patches of the held-out combinations, given as oracle=COHORT, show what can be had at best. `--arms all,stains`
    also compares stain normalisation and augmentation, for which the patches are embedded again. With `--features` no
    image is needed; files that say encoder or transform must say the same. `--sweep` takes a crossed cohort alone.

    Example: medi utility my-packed medi=my-samples --over class,site
    """
    from medi.api import measures

    real, synthetic, features = real_and_others(real, synthetic, features)
    if sweep:
        others = {"--task": task, "--arms": arms, "--attribute": attribute, "--head": head != "tuned"}
        refuse_beside("--sweep", others | {"--seeds": seeds != 1})
        _sweep(real, synthetic or [], out, columns(over), columns(heads) or [], encoder, features, cache, seed)
        return
    asked: dict[str, Any] = {"head": head, "seeds": seeds, "encoder": encoder, "seed": seed}
    asked |= {"task": task, "over": columns(over), "attributes": columns(attribute) or []}
    asked |= {"arms": columns(arms) or ["all"], **({"heads": columns(heads)} if heads else {})}
    sets = folders(synthetic or [])
    with only(out, "utility", {"real": real, **sets}, **asked, **given(features=features and str(features))):
        found = measures.utility(real, sets, features=features, cache=cache, progress=Terminal(), **asked)
        found.save(out)
    _show(found, head)
    say(f"{found.rows:,} real training patches; tables: {out / 'utility.parquet'}")
    _lead_on(real, synthetic or [], out, len(found.over) > 1, found.is_given)


def _sweep(
    real: Path,
    synthetic: list[str],
    out: Path,
    over: list[str] | None,
    heads: list[str],
    encoder: str,
    features: Path | None,
    cache: Path | None,
    seed: int,
) -> None:
    """The table and the figure of a sweep of confounding."""
    from medi.api.sweeping import sweep
    from medi.core.errors import MediError

    if synthetic:
        raise MediError(f"--sweep compares sets that need no generator; leave {synthetic[0]} out")
    asked: dict[str, Any] = {"over": over, "heads": heads, "encoder": encoder, "seed": seed}
    with only(out, "utility", {"real": real}, sweep=True, **asked, **given(features=features and str(features))):
        found = sweep(real, features=features, cache=cache, progress=Terminal(), **asked)
        found.save(out)
    show_sweep(found.to_frame(), found.title)
    for line in found.remarks:
        say(line)
    say(f"table and figure: {out / 'sweep.parquet'}, {out / 'sweep.png'}")
    next_step("recommend", real)


def _show(found: "Utility", head: str) -> None:
    """Each task: the training sets, the verdict, and the same sets under other heads where they were asked for."""
    rows, verdicts = found.to_frame(), found.verdicts()
    for name in verdicts:
        show_remedies(rows[rows["task"] == name], f"Mean recall over combinations, classes: {name}, head: {head}")
        for sentence in verdicts[name]:
            say(sentence)
        if "heads" in found.tables:
            table = found.tables["heads"]
            show_heads(table[table["task"] == name], f"Mean recall over combinations by head, classes: {name}")
    for line in found.remarks:
        say(line)


def _lead_on(real: Path, synthetic: list[str], out: Path, has_levels: bool, is_given: bool) -> None:
    """The report; without an attribute whose levels it could compare an export: of the model, if tested for copies."""
    from medi.export.tested import memorisation_of
    from medi.study.beside import measured_beside, model_that_made

    if is_given:
        next_step("report", "--real", real, "--utility", out)
        return
    sets = folders(synthetic)
    if not has_levels:
        model = model_that_made(sets.values(), out)
        is_tested = model is not None and not memorisation_of(model_file(model)).reason
        next_step("export", *([model] if is_tested else [next(iter(sets.values()), real), "--as", "folder"]))
        return
    measured = measured_beside(out, {"real": real, **sets})
    words = ["--fidelity", measured] if measured else []
    next_step("report", "--real", real, *synthetic, *words, "--utility", out)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(utility))
