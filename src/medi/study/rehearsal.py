"""What a study would do and cost, without writing anything: the dry run of `medi run`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from medi.cohort.holdout import design
from medi.cohort.table import Cohort
from medi.core.numbers import digits
from medi.evaluation.encoders import learned
from medi.models.cost import duration, flop, gflop_per_image, storage, weightless
from medi.study import preparing
from medi.study.context import MODELS
from medi.study.generating import inner_models
from medi.study.settings import StudySettings
from medi.study.sources import source_of
from medi.study.study import check
from medi.training.cost import cost_of, seconds_of, try_updates
from medi.training.latents import network_of
from medi.training.presets import Preset

UPDATES = 3  # that are timed
LONG, LOOK = 1_200.0, 600.0  # seconds of training: from which a shorter one is named, and how long that takes
PATIENCE = 4.0  # seconds; an update that a short trial expects to take longer is not done
STATE = 4 * 4  # bytes of a weight while in training: itself, its average, and two moments


def rehearse(s: StudySettings) -> list[str]:
    """What `run` would do, a line per stage: all is checked that the run checks; the cohort is read and held out.

    Three updates of the real network are timed, so this takes seconds. MediError as `run` would give.
    """
    check(s)
    cohort = source_of(s).read()
    found = design(cohort.table, cohort.schema, preparing.rule_of(s), s.seed)
    split = replace(cohort, table=found.apply(cohort.table))
    plan, denoiser = preparing.plan_of(s, split), weightless(network_of(s.network, s.training), cohort.schema)
    gflop, weights = gflop_per_image(denoiser), sum(p.numel() for p in denoiser.parameters())
    steps, size = s.sampling.evaluations, s.cohort.size
    parts = ", ".join(f"{name} {n:,}" for name, n in split.table["split"].value_counts().items())
    return [
        f"cohort: {len(cohort):,} patches of {split.table['patient'].nunique():,} patients, "
        f"{storage(len(cohort) * size**2 * 3)} at {size} px",
        *(f"  {note}" for note in cohort.notes),
        *(f"warning: {warning}" for warning in cohort.warnings),
        "audit: " + "; ".join(line for line in cohort.audit().summary() if line not in cohort.warnings),
        f"holdout: {len(found.held_out)} combinations; {parts}",
        *(f"warning: {caution}" for caution in found.cautions()),
        f"models: {' and '.join(MODELS)}, {weights / 1e6:,.1f} M parameters, {s.training.images:,} images of "
        f"{flop(3 * gflop)} each: {flop(3 * gflop * s.training.images)} a model",
        *_training(s, split),
        *_guide(s, split),
        f"samples: {len(plan):,} images a model, {steps} evaluations each: {flop(gflop * steps * len(plan))} a model"
        + ", without what the classifier takes" * s.sampling.guidance.needs_classifier,
        *_inner(s, split),
        *([f"style: {s.evaluation.style_images:,} images train style transfer"] if s.evaluation.style else []),
        f"embeddings: {', '.join(s.evaluation.encoders)}; {len(cohort) + len(MODELS) * len(plan):,} patches",
        f"disk: about {storage(_disk(s, len(cohort), len(plan), weights))}",
    ]


def _training(s: StudySettings, split: Cohort) -> Iterator[str]:
    """How long both models take on this machine, how much memory, and how often each training patch is shown."""
    chosen = Preset(s.network, s.training)
    patches = int((split.table["split"] == "train").sum())
    cost = cost_of(chosen, split.schema)
    each, how, memory = 1 / cost.images_per_second, "by a short trial of forward passes", ""
    if each * s.training.batch < PATIENCE:
        trial = try_updates(chosen, split.schema, UPDATES)
        each, how = trial.seconds / s.training.batch, f"by {UPDATES} updates of {s.training.batch} images"
        memory = f"; {storage(trial.memory)} of memory a model"
    together, shown = each * s.training.images * len(MODELS), s.training.images / max(patches, 1)
    yield (
        f"training: about {duration(together)} for both models on this machine ({digits(1 / each)} images/s, {how})"
        f"{memory}; each of the {patches:,} training patches is shown {shown:,.0f} times"
    )
    if together > LONG:
        images = max(int(LOOK / each / len(MODELS)) // 1_000, 1) * 1_000
        yield (
            f"  for a first verdict in less time: with `training: {{images: {images}}}` in the study file both take "
            f"about {duration(images * each * len(MODELS))}; their images are worse"
        )


def _guide(s: StudySettings, split: Cohort) -> Iterator[str]:
    """How long the classifier that guides takes, where there is one."""
    if s.sampling.guidance.needs_classifier:
        seconds = seconds_of(s.classifier, split.schema, s.cohort.size, UPDATES)
        yield f"classifier: {s.classifier.images:,} images train it: about {duration(seconds)} on this machine"


def _inner(s: StudySettings, split: Cohort) -> Iterator[str]:
    """What it costs to judge CLS and MeDi by models of inner hold-outs, where that is asked for."""
    if models := inner_models(s, Path()):
        yield f"recommend: {models.cost(split.where(split='train'), ('class', s.attribute), s.seed)}"


def _disk(s: StudySettings, patches: int, planned: int, weights: int) -> int:
    """Bytes of a finished run: pixels of cohort, references and samples, models with their states, features."""
    drawn = len(source_of(s).drawn) * s.evaluation.patches * max(planned // max(s.plan.minimum, 1), 1)
    images = patches + len(MODELS) * planned + drawn
    numbers = sum(256 if name == learned.NAME else 1024 for name in s.evaluation.encoders)
    return images * (3 * s.cohort.size**2 + 4 * numbers) + len(MODELS) * weights * (4 + STATE)
