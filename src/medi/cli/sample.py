"""The verb sample: the synthetic cohort of a plan."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi.cli.help import add
from medi.cli.next_step import named, next_step
from medi.cli.options import Compile, Model, Seed, Shard, folder, model_file, one_of, with_device
from medi.cli.terminal import Terminal, say
from medi.cli.values import RANGE, interval, named_numbers, shard_of

if TYPE_CHECKING:
    from medi.sampling.guidance import Guidance

SOLVERS = ("dpm_solver_2m", "ipndm", "ddim", "ddim_clipped", "heun")
SCHEDULES = ("log", "edm", "leading", "linspace")
PRECISIONS = ("auto", "bf16", "fp32")
GUIDE, LEVELS = "Guidance", "Noise levels"  # headings of the help
AUTOGUIDANCE_WEIGHT, CLASSIFIER_WEIGHT = 1.0, 2.0  # where an option names the guide and none its weight


Steps = Annotated[int, typer.Option(min=1, help="Noise levels.", rich_help_panel=LEVELS)]
SigmaMin = Annotated[
    float, typer.Option(help="Lowest noise level of the schedules log and edm.", rich_help_panel=LEVELS)
]
SigmaMax = Annotated[float, typer.Option(help="Their highest.", rich_help_panel=LEVELS)]
Solver = Annotated[
    str,
    typer.Option(help=f"{', '.join(SOLVERS)}.", autocompletion=one_of(*SOLVERS), rich_help_panel=LEVELS),
]
Schedule = Annotated[
    str,
    typer.Option(help=f"{', '.join(SCHEDULES)}.", autocompletion=one_of(*SCHEDULES), rich_help_panel=LEVELS),
]
Eta = Annotated[
    float,
    typer.Option(min=0, help="Fresh noise in each step of dpm_solver_2m; 0 is none.", rich_help_panel=LEVELS),
]
EtaInterval = Annotated[
    str | None,
    typer.Option(metavar=RANGE, help="Fresh noise between these sigmas only.", rich_help_panel=LEVELS),
]
GuidanceWeights = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=WEIGHT", help="Draw towards class or an attribute.", rich_help_panel=GUIDE),
]
Autoguidance = Annotated[
    Path | None, typer.Option(metavar="MODEL", help="Draw away from this worse model.", rich_help_panel=GUIDE)
]
AutoguidanceWeight = Annotated[
    float | None,
    typer.Option(help="How far, with --autoguidance.", show_default=f"{AUTOGUIDANCE_WEIGHT:g}", rich_help_panel=GUIDE),
]
ClassifierFile = Annotated[
    Path | None, typer.Option(metavar="CLASSIFIER", help="Draw towards the class it knows.", rich_help_panel=GUIDE)
]
ClassifierWeight = Annotated[
    float | None,
    typer.Option(help="How far, with --classifier.", show_default=f"{CLASSIFIER_WEIGHT:g}", rich_help_panel=GUIDE),
]
Candidates = Annotated[
    int,
    typer.Option(min=1, help="Images made for each row; --classifier keeps the best.", rich_help_panel=GUIDE),
]
GuidanceInterval = Annotated[
    str | None, typer.Option(metavar=RANGE, help="Guide between these sigmas only.", rich_help_panel=GUIDE)
]
Batch = Annotated[int, typer.Option(min=1, help="Images at once; part of what makes them repeatable.")]
Precision = Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}.", autocompletion=one_of(*PRECISIONS))]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes on this machine.", show_default="one a core, on a CPU")
]


def sample(
    model: Model,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Folder of medi plan, or a table (see above).")],
    out: Annotated[Path, folder("the synthetic cohort")] = Path("medi-samples"),
    steps: Steps = 16,
    sigma_min: SigmaMin = 0.02,
    sigma_max: SigmaMax = 40.0,
    solver: Solver = SOLVERS[0],
    schedule: Schedule = SCHEDULES[0],
    eta: Eta = 0.0,
    eta_interval: EtaInterval = None,
    guidance: GuidanceWeights = None,
    autoguidance: Autoguidance = None,
    autoguidance_weight: AutoguidanceWeight = None,
    classifier: ClassifierFile = None,
    classifier_weight: ClassifierWeight = None,
    candidates: Candidates = 1,
    guidance_interval: GuidanceInterval = None,
    shard: Shard = "0/1",
    batch: Batch = 128,
    precision: Precision = "auto",
    compile: Compile = False,
    workers: Workers = None,
    seed: Seed = 0,
) -> None:
    """The synthetic cohort of a plan.

    The same command goes on where it stopped. PLAN is a folder of `medi plan`, or a CSV or Parquet table with a column
    for the class and each attribute, and n, the images of each row. An entry may mix levels: Alder:0.7+Birch:0.3. Under
    torchrun or accelerate launch processes share the work.

    Example: medi sample my-model my-plan --out my-samples --steps 20
    """
    from medi.api.model import sample_part
    from medi.core.progress import Show, Silent
    from medi.core.sharding import process
    from medi.sampling.sampler import SamplerSettings
    from medi.study.beside import packed_for

    away = _weight(autoguidance, autoguidance_weight, AUTOGUIDANCE_WEIGHT)
    towards = _weight(classifier, classifier_weight, CLASSIFIER_WEIGHT)
    asked = _guidance(guidance or [], guidance_interval, away, towards, candidates)
    within = None if eta_interval is None else interval(eta_interval, "--eta-interval")
    kind: Any = precision  # SamplerSettings refuses what is unknown
    settings = SamplerSettings(steps, sigma_min, sigma_max, batch, solver, schedule, asked, kind, compile, eta, within)
    part, started = shard_of(shard), time.perf_counter()
    worse = None if autoguidance is None else model_file(autoguidance)
    show: Show = Silent() if process("RANK", 0) else Terminal()
    with show.bars("sampling") as (advance,):
        cohort = sample_part(model_file(model), plan, out, settings, seed, worse, part, workers, advance, classifier)
    took = f"{time.perf_counter() - started:.0f} s"
    if cohort is None:
        say(f"shard {shard} is done ({took}); the last of the others joins all: {out}")
        return
    say(f"sampled: {len(cohort):,} images, {settings} ({took}): {out}")
    next_step("fidelity", named(packed_for(model_file(model), out), "medi-packed"), f"medi={out}")


def _weight(guide: Path | None, asked: float | None, usual: float) -> float:
    """How far a guide draws; a weight without a guide is refused where the model is opened."""
    return asked if asked is not None else 0.0 if guide is None else usual


def _guidance(
    given: list[str], within: str | None, autoguidance: float, classifier: float, candidates: int
) -> "Guidance":
    from medi.sampling.guidance import Guidance

    weights = named_numbers(given, "--guidance", "class=1.5")
    inside = None if within is None else interval(within, "--guidance-interval")
    return Guidance(weights, autoguidance, inside, classifier, candidates)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(sample))
