"""Training of style transfer: patches of one level learn to look like those of another, without pairs.

Losses as in CycleGAN (Zhu et al., ICCV 2017): least squares against the critic, cycle and identity. HistAuGAN (Wagner
et al., MICCAI 2021) did the same for stains. An update shows the critic real patches of a level and changed ones of the
same class: else the critic would know a level by its classes, and the generator would change the class for it.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.cohort.turns import VIEWS
from medi.core import seeds
from medi.core.devices import device
from medi.core.errors import MediError
from medi.core.locks import holding
from medi.core.progress import Advance, unheard
from medi.core.settings import validated
from medi.models.space import PixelSpace
from medi.models.style import STYLE, STYLE_FILE, Critic, Generator
from medi.training.small import Counters, SmallTraining, train_small

AVERAGE = 0.995  # share of an update that the averaged generator keeps
Drawn = tuple[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"], Float[Tensor, "n 3 h w"], Int64[Tensor, " n"]]


@validated
@dataclass(frozen=True)
class StyleSettings:
    """images: real patches that the critic sees; cycle, same: weights of the losses of cycle and identity.

    The learning rate falls to 0 over the second half. What is kept is an average of the generator on its way.
    """

    images: int = 30_000
    batch: int = 16
    width: int = 32
    blocks: int = 4
    learning_rate: float = 5e-4
    cycle: float = 10.0
    same: float = 5.0

    def __post_init__(self) -> None:
        if min(self.images, self.batch, self.width, self.blocks) < 1:
            raise MediError(f"style transfer needs at least 1 image, row, channel and block, not {self!r}")
        numbers = (self.learning_rate, self.cycle, self.same)
        if not all(map(math.isfinite, numbers)) or self.learning_rate <= 0 or min(numbers) < 0:
            raise MediError(f"style transfer needs a learning_rate above 0 and weights of 0 or more, not {self!r}")


@holding("folder")
def train_style(
    cohort: Cohort, attribute: str, folder: Path, settings: StyleSettings, seed: int, progress: Advance = unheard
) -> Path:
    """Train on all of `cohort` to show its patches at other levels of `attribute`; give training patches alone (P5).

    Writes folder/style.safetensors. The same call goes on where an interrupted one stopped, to the same bits on a CPU
    (P4), and does nothing where it ended; other patches or settings are refused. MediError where no class has patches
    at two levels.
    """
    pairs = Pairs.of(cohort, attribute, seed)
    config = {STYLE: asdict(settings) | {"attribute": attribute}, "schema": pairs.schema.to_dict(), "seed": seed}
    config |= {"size": cohort.images.size, "mpp": cohort.mpp, "data": cohort.digest()}
    begin = partial(_Game, pairs, settings, seed)
    return train_small(folder / STYLE_FILE, config, settings.images, settings.batch, begin, progress)


@dataclass(frozen=True)
class Pairs:
    """What each update sees: image c depends on (seed, c) alone (P4).

    schema: the cohort's, of the attribute the levels with patches; code [n]: the number of each row's level; like: by
    combination of class and level the rows that it has, and the rows of its class at other levels.
    """

    cohort: Cohort
    attribute: str
    schema: Schema
    code: Int64[np.ndarray, " n"]
    like: tuple[tuple[Int64[np.ndarray, " _r"], Int64[np.ndarray, " _s"]], ...]
    seed: int

    @classmethod
    def of(cls, cohort: Cohort, attribute: str, seed: int) -> "Pairs":
        whole, table = cohort.schema.attribute(attribute), cohort.table
        if whole.kind != "categorical":
            raise MediError(f"{attribute} is a number; only attributes with levels have a style")
        if cohort.images.size % 2:
            raise MediError(f"style transfer needs an even number of pixels, not {cohort.images.size}")
        known = replace(whole, levels=tuple(level for level in whole.levels if (table[attribute] == level).any()))
        if len(known.levels) < 2:
            raise MediError(f"{len(known.levels)} level of {attribute} in training: there is no other style to learn")
        code, label = known.encode(table[attribute]), cohort.schema.classes.encode(table["class"])
        placed, like = (code >= 0) & (label >= 0), []
        for one, at in np.unique(np.stack([label, code], axis=1)[placed], axis=0):
            of_class = placed & (label == one)
            if (of_class & (code != at)).any():
                like.append((np.flatnonzero(of_class & (code == at)), np.flatnonzero(of_class & (code != at))))
        if alone := sorted(set(range(len(known.levels))) - {int(code[rows[0]]) for rows, _ in like}):
            raise MediError(
                f"{attribute} {known.levels[alone[0]]} shares no class with another {attribute} in training: its style "
                "cannot be told from its classes; leave it out"
            )
        others = (known if each.name == attribute else each for each in cohort.schema.attributes)
        return cls(cohort, attribute, Schema(cohort.schema.classes, tuple(others)), code, tuple(like), seed)

    def __call__(self, counters: Counters) -> Drawn:
        """Patches with their levels, and real ones of the same classes at the levels that they are to show."""
        found, turns = np.empty((2, 2, len(counters)), dtype=np.int64)
        for i, counter in enumerate(counters):
            rng = seeds.generator("style", self.seed, int(counter))
            real, others = self.like[rng.integers(len(self.like))]
            at = self.code[others]
            donors = others[at == rng.choice(np.unique(at))]  # every level as often, however many patches it has
            found[:, i], turns[:, i] = (rng.choice(donors), rng.choice(real)), rng.integers(VIEWS, size=2)
        space = PixelSpace()
        x, y = (torch.from_numpy(space.views(self.cohort.images[rows], turn)) for rows, turn in zip(found, turns))
        source, target = torch.from_numpy(self.code[found])
        return x.to(device()), source.to(device()), y.to(device()), target.to(device())


class _Game(SmallTraining):
    """Generator against critic; the generator's average is kept."""

    def __init__(self, pairs: Pairs, settings: StyleSettings, seed: int) -> None:
        levels = len(pairs.schema.attribute(pairs.attribute).levels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.integer("style weights", seed))
            generator = Generator(levels, settings.width, settings.blocks)
            critic = Critic(levels, settings.width)
        self.pairs, self.settings = pairs, settings
        self.generator, self.critic = generator.to(device()), critic.to(device())
        networks = {"generator": self.generator, "critic": self.critic}
        optimizers = {
            name: torch.optim.Adam(part.parameters(), settings.learning_rate, betas=(0.5, 0.99), fused=True)
            for name, part in networks.items()
        }
        super().__init__("style transfer", networks, optimizers, AVERAGE)

    def update(self, counters: Counters) -> None:
        """One step of the critic, then one of the generator."""
        x, source, y, target = self.pairs(counters)
        self.set_rate(self.settings.learning_rate * min(1.0, 2 - 2 * self.images / self.settings.images))
        made, same = self.generator(torch.cat([x, y]), torch.cat([source, target]), target.repeat(2)).chunk(2)
        real, fake = self.critic(y, target), self.critic(made.detach(), target)
        self.step("critic", (real - 1).square().mean() + fake.square().mean())
        back = self.generator(made, target, source)
        loss = (self.critic(made, target) - 1).square().mean()
        loss = loss + self.settings.cycle * (back - x).abs().mean() + self.settings.same * (same - y).abs().mean()
        self.step("generator", loss)
        self.seen(len(counters))
