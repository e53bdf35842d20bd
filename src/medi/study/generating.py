"""The stages that train and sample: CLS, p(image | class), and MeDi, p(image | class, metadata), all else alike."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pandas as pd

from medi.api.guiding import train_in_split
from medi.api.inner_models import InnerModels
from medi.api.model import encode_split, sample_part, train_split
from medi.cohort.combinations import at_most
from medi.cohort.table import Cohort
from medi.core.files import read_table
from medi.core.progress import Advance
from medi.core.sharding import WHOLE, Shard
from medi.models.autoencoder import Autoencoder, through
from medi.models.style import STYLE_FILE
from medi.sampling.style import style_transfer
from medi.sampling.transfer import TransferSettings, filling, transfer
from medi.study.context import CLASSIFIER, MEDI, MODELS, STYLE_MODEL, TRANSLATED, Study, reopen
from medi.study.settings import StudySettings
from medi.study.stages import discard
from medi.training.loop import EARLY
from medi.training.presets import Preset
from medi.training.style import StyleSettings, train_style

INNER = "inner-models"  # in the run folder: models of inner hold-outs, and their images
TRANSLATION_STEPS = 10  # as near to the truth as 15 (docs/how-to/transfer.md)


def inner_models(s: StudySettings, folder: Path) -> InnerModels | None:
    """How CLS and MeDi are trained for inner hold-outs: as for the true one; None where they are not asked for."""
    if not s.utility.with_models:
        return None
    chosen, draws = Preset(s.network, s.training), s.utility.with_models
    return InnerModels(folder / INNER, chosen, s.sampling, s.plan.to, MODELS, draws, s.classifier)


def train_models(study: Study, path: Path) -> str:
    """Both models at once; latents are encoded before, for both."""
    s = study.settings
    encode_split(study.split(), Preset(s.network, s.training), path, study.show)
    study.side_by_side("training", train_model, MODELS)
    return f"{' and '.join(MODELS)}, {study.settings.training.images:,} images each"


def train_model(folder: Path, model: str, advance: Advance) -> None:
    """Worker: train CLS on the class alone or MeDi on class and metadata."""
    study = reopen(folder)
    s, out = study.settings, folder / "models" / model
    train_split(study.split(), Preset(s.network, s.training), out, s.seed, model == MEDI, advance)


def train_guide(study: Study, path: Path) -> str:
    """The classifier that guides both models, of training patches alone (P5)."""
    s = study.settings
    with study.show.bars("training the classifier") as (advance,):
        train_in_split(study.split(), path, s.classifier, s.seed, advance)
    return f"the classifier that guides, {s.classifier.images:,} images"


def discard_models(folder: Path, names: Iterable[str]) -> None:
    """Delete damaged files; a finished training's state makes model and log again, but not the average on its way."""
    for path in (folder / name for name in names):
        discard(path.parent if path.name == EARLY else path)


def sample_models(study: Study, path: Path) -> str:
    """The synthetic cohorts of both models."""
    study.side_by_side("sampling", sample_model, MODELS)
    return f"{' and '.join(MODELS)}, {study.settings.sampling.steps} steps an image"


def sample_model(folder: Path, model: str, advance: Advance, shard: Shard = WHOLE) -> None:
    """Worker: the synthetic cohort of one model, or a part of it."""
    study = reopen(folder)
    s, checkpoint = study.settings, study.checkpoint(model)
    worse = checkpoint.with_name(EARLY) if s.sampling.guidance.autoguidance else None
    guide = folder / CLASSIFIER if s.sampling.guidance.needs_classifier else None
    plan, out = folder / "plan", folder / "samples" / model
    sample = partial(sample_part, worse=worse, shard=shard, workers=1, advance=advance, classifier=guide)
    sample(checkpoint, plan, out, s.sampling, s.seed, certificate=study.certificate())


def round_trip(study: Study, path: Path) -> str:
    """The patches of the floor as the autoencoder gives them back: the best that a model on its latents can make."""
    s, floor = study.settings, study.real_sets()["floor"]
    found = floor.select(at_most(floor.table, study.over, s.evaluation.distance_images))
    autoencoder = Autoencoder.open(s.training.autoencoder)
    with study.show.bars("round trip") as (advance,):
        through(autoencoder, found, advance).save(path)
    return f"{len(found):,} patches of the floor through {autoencoder.name}"


def translation_of(s: StudySettings) -> TransferSettings:
    """How training patches are translated in a study."""
    return TransferSettings(steps=TRANSLATION_STEPS, batch=s.sampling.batch)


def translate(study: Study, path: Path) -> str:
    """Training patches as MeDi shows them at the levels that the plan fills."""
    with study.show.bars("translating") as (advance,):
        rows, wanted = _translated(study, path, advance)
    return f"{rows:,} training patches at another {study.settings.attribute}, of {wanted:,} that the plan wants"


def translate_part(folder: Path, item: str, advance: Advance, shard: Shard) -> None:
    """Worker: a part of the translated patches."""
    _translated(reopen(folder), folder / TRANSLATED, advance, shard)


def _translated(study: Study, path: Path, advance: Advance, shard: Shard = WHOLE) -> tuple[int, int]:
    """How many patches are translated, and how many the plan wants."""
    patches, rows, wanted = _to_translate(study)
    transfer(study.checkpoint(MEDI), patches, rows, path, translation_of(study.settings), advance, shard)
    return len(rows), wanted


def _to_translate(study: Study) -> tuple[Cohort, pd.DataFrame, int]:
    """The training patches, the rows that the plan fills with them, and how many it wants."""
    s, patches = study.settings, study.split().where(split="train")
    plan = read_table(study.folder / "plan" / "rows.parquet")
    wanted = plan[plan["fill"].to_numpy(dtype=bool)]
    return patches, filling(patches, patches.schema, s.attribute, wanted, s.seed), len(wanted)


def style_of(s: StudySettings) -> StyleSettings:
    """How the image-to-image translator of a study is trained."""
    return StyleSettings(images=s.evaluation.style_images)


def train_style_model(study: Study, path: Path) -> str:
    """An image-to-image translator between the levels, of training patches alone (P5)."""
    s, asked = study.settings, style_of(study.settings)
    with study.show.bars("training style") as (advance,):
        train_style(study.split().where(split="train"), s.attribute, path, asked, s.seed, advance)
    return f"between the levels of {s.attribute}, {asked.images:,} images"


def restyle(study: Study, path: Path) -> str:
    """The training patches that the plan asks for, as this translator shows them at the levels that it fills."""
    patches, rows, wanted = _to_translate(study)
    with study.show.bars("style transfer") as (advance,):
        style_transfer(study.folder / STYLE_MODEL / STYLE_FILE, patches, rows, path, advance)
    return f"{len(rows):,} training patches at another {study.settings.attribute}, of {wanted:,} that the plan wants"
