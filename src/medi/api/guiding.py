"""A classifier that guides samples towards their class."""

from pathlib import Path
from typing import Any

from medi.api.model import training_patches
from medi.cohort.table import Cohort
from medi.core.progress import Advance, Show, Silent, unheard
from medi.training.classifier import ClassifierSettings
from medi.training.classifier import train_classifier as train_on


def train_classifier(
    patches: Cohort | str | Path,
    out: str | Path = "medi-classifier",
    seed: int = 0,
    progress: Show | None = None,
    **settings: Any,
) -> Path:
    """Train a classifier of noisy patches, p(class | x, sigma), that draws a model's samples towards their class.

    Patches of the split `train` are learned; a cohort without a split is learned whole. Each is shown in random
    colours, so that its class is learned from its structure. settings: of `ClassifierSettings`, such as images=80_000.
    progress: shows a bar. Writes out/classifier.safetensors and returns its path; the same call goes on where it
    stopped (P4, P12). It guides any model of patches of this size with these classes, by
    `model.sample(plan, classifier=out, guidance={"classifier": 2})`.
    MediError where all patches are of one class, and where `out` holds another classifier.

    Source: Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021, section 4.

    >>> import medi
    >>> tissue = medi.phantom(patches=100, seed=0)
    >>> tiny = medi.train_classifier(tissue, out="tiny-classifier", images=64, batch=16, channels=(8,))
    >>> model = medi.train(tissue, preset="tiny", out="tiny-model", seed=0)
    >>> asked = tissue.table.head(2).assign(noise_id=["a", "b"])
    >>> made = model.sample(asked, out="tiny-guided", steps=3, classifier=tiny, guidance={"classifier": 2})
    >>> made.table["guidance"].unique().tolist()
    ['classifier=2']
    """
    cohort = patches if isinstance(patches, Cohort) else Cohort.load(patches)
    with (progress or Silent()).bars("training the classifier") as (advance,):
        return train_in_split(cohort, Path(out), ClassifierSettings(**settings), seed, advance)


def train_in_split(
    cohort: Cohort, folder: Path, settings: ClassifierSettings, seed: int, advance: Advance = unheard
) -> Path:
    """Train on the training patches of a cohort; the classifier's file."""
    cohort.images  # noqa: B018 - refuses a cohort without pixels
    return train_on(training_patches(cohort), folder, settings, seed, advance)
