"""Training of the classifier that guides: the class of noisy training patches, whatever their stain.

Where class and site go together, a classifier would learn the site. So combinations are drawn nearly alike, and every
patch is shown in random colours: its optical densities are mapped by a random matrix near to the identity, which also
makes other stains out of two (Beer-Lambert; the idea of Tellez et al., Medical Image Analysis 2019).
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.devices import Precision, device, in_bf16
from medi.core.errors import MediError
from medi.core.locks import holding
from medi.core.progress import Advance, unheard
from medi.core.settings import validated
from medi.models.classifier import CLASSIFIER, CLASSIFIER_FILE, GROUPS, halvings, network_of
from medi.training.colours import Maps, recoloured
from medi.training.data import Batches
from medi.training.recipe import Recipe
from medi.training.small import Counters, SmallTraining, train_small

AVERAGE = 0.998  # share of the averaged weights that an update keeps, in the end
DECAY = 0.05  # of the weights
WARM_UP = 0.05  # share of the training in which the learning rate rises
BALANCE = 0.75  # combinations of n patches are drawn in proportion to n^(1 - BALANCE)


@validated
@dataclass(frozen=True)
class ClassifierSettings:
    """images: noisy patches that are shown; channels: of the blocks (`medi.models.classifier.Classifier`).

    colour: how far the random maps of optical densities are from the identity, the standard deviation of their entries.
    noise_mean, noise_std: of ln sigma. precision: of convolutions and matrix products; auto is bf16 where the machine
    has units for it, else fp32. The learning rate rises, then falls to 0 over the last 0.6 of the images.
    """

    images: int = 160_000
    batch: int = 64
    channels: tuple[int, ...] = (32, 64, 96)
    learning_rate: float = 2e-3
    colour: float = 0.25
    noise_mean: float = -1.15
    noise_std: float = 1.6
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        counts = (self.images, self.batch, len(self.channels), *self.channels)
        if min(counts) < 1 or any(width % GROUPS for width in self.channels):
            raise MediError(f"a classifier needs images, a batch, and channels in multiples of {GROUPS}, not {self!r}")
        numbers = (self.learning_rate, self.noise_std, self.colour, self.noise_mean)
        if not all(map(math.isfinite, numbers)) or min(numbers[:2]) <= 0 or self.colour < 0:
            raise MediError(
                f"a classifier needs learning_rate and noise_std above 0, colour of 0 or more, and finite numbers, not "
                f"{self!r}"
            )

    def check_size(self, size: int) -> None:
        """MediError where patches of so many px cannot be halved as often as the blocks halve them."""
        divisor = 1 << halvings(self.channels)
        if size % divisor:
            raise MediError(
                f"a classifier of {len(self.channels)} blocks needs patches whose side divides by {divisor}, not of "
                f"{size} px"
            )


@holding("folder")
def train_classifier(
    cohort: Cohort, folder: Path, settings: ClassifierSettings, seed: int, progress: Advance = unheard
) -> Path:
    """Train p(class | x, sigma) on all patches of `cohort` that have a class; give training patches alone (P5).

    Writes folder/classifier.safetensors. The same call goes on where an interrupted one stopped, to the same bits on a
    CPU (P4), and does nothing where it ended; other patches or settings are refused. MediError where there are not two
    classes.
    """
    cohort = _classed(cohort)
    settings.check_size(cohort.images.size)
    config = {CLASSIFIER: asdict(settings), "schema": cohort.schema.to_dict(), "seed": seed}
    config |= {"size": cohort.images.size, "mpp": cohort.mpp, "data": cohort.digest()}
    begin = partial(ClassifierTraining, cohort, settings, seed)
    return train_small(folder / CLASSIFIER_FILE, config, settings.images, settings.batch, begin, progress)


def _classed(cohort: Cohort) -> Cohort:
    """The patches whose class is known, and of the classes those that have patches."""
    known = cohort.select(cohort.schema.classes.encode(cohort.table["class"]) >= 0)
    levels = tuple(level for level in cohort.schema.classes.levels if (known.table["class"] == level).any())
    if len(levels) < 2:
        raise MediError("the training patches show fewer than two classes: a classifier has nothing to tell apart")
    return replace(known, schema=replace(cohort.schema, classes=replace(cohort.schema.classes, levels=levels)))


class ClassifierTraining(SmallTraining):
    """The classifier's averaged weights are kept."""

    def __init__(self, cohort: Cohort, settings: ClassifierSettings, seed: int) -> None:
        recipe = Recipe(
            images=max(settings.images, settings.batch),
            batch=settings.batch,
            save_every=settings.batch,
            balance=BALANCE,
            noise_mean=settings.noise_mean,
            noise_std=settings.noise_std,
        )
        self.settings, self.seed, self.classes = settings, seed, cohort.schema.classes.name
        self.batches = Batches(cohort, cohort.schema.encode(cohort.table), recipe, seeds.integer("classifier", seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.integer("classifier weights", seed))
            network = network_of(asdict(settings), len(cohort.schema.classes.levels))
        network = network.to(device()).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=DECAY, fused=True)
        super().__init__("the classifier", {CLASSIFIER: network}, {"optimizer": optimizer}, AVERAGE)

    def update(self, counters: Counters) -> None:
        """One step of the optimiser."""
        batch = self.batches(counters, device())
        clean = recoloured(batch.images, colour_maps(counters, self.seed, self.settings.colour))
        noisy = clean + batch.sigma[:, None, None, None] * batch.noise
        self.set_rate(self.settings.learning_rate * self._rate(self.images / self.settings.images))
        with torch.autocast(device().type, torch.bfloat16, enabled=in_bf16(self.settings.precision)):
            scores = self.kept(noisy.contiguous(memory_format=torch.channels_last), batch.sigma)
        self.step("optimizer", functional.cross_entropy(scores.float(), batch.codes[self.classes].long()))
        updates = self.images // self.settings.batch
        self.keep = min(AVERAGE, (updates + 1) / (updates + 10))  # the first weights are soon forgotten
        self.seen(len(counters))

    @staticmethod
    def _rate(done: float) -> float:
        return min(1.0, (done + 1e-3) / WARM_UP, (1 - done) / 0.6)


def colour_maps(counters: Counters, seed: int, spread: float) -> Maps:
    """The random map of the optical densities of each training image: a matrix, and a shift in its last column."""
    maps = np.empty((len(counters), 3, 4), dtype=np.float32)
    for one, counter in zip(maps, counters):
        rng = seeds.generator("classifier colours", seed, int(counter))
        one[:, :3] = (np.eye(3) + spread * rng.standard_normal((3, 3))) * np.exp(spread * rng.standard_normal())
        one[:, 3] = 0.2 * spread * np.abs(rng.standard_normal(3))
    return maps
