"""Images on request: new samples, a patch translated to other levels, a level that training never saw. No layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from medi.app.jobs import Progress, Tell, counted
from medi.app.workbench import MODEL_FILE, Model, Neighbours, Shown, Workbench
from medi.cohort.image_fit import read_patches
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.types import Images
from medi.models.checkpoint import check_scale
from medi.models.denoiser import Denoiser
from medi.models.level_mix import Mix
from medi.sampling.guidance import Guidance, Judge
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.sampling.transfer import Bridge, TransferSettings
from medi.training.adaptation.adapt import adapt
from medi.training.adaptation.learning import AdaptSettings

BATCH = 16  # images of a request
Guides = tuple[Denoiser | None, Judge | None]  # the model of autoguidance, and the classifier
AT_ONCE = 4  # of them in a batch: the first ones are there after a quarter of the time
FRAMES = 9  # stops of the slider between two levels
STOPS = 12  # levels at which a patch is shown, at most
ADAPTED = 4  # images per class in the style of a new level


@dataclass(frozen=True)
class Wish:
    """What is asked of a model. mix: (attribute, further level, its share), the first level stands in `conditions`."""

    model: str
    conditions: dict[str, str]
    mix: tuple[str, str, float] | None = None
    seed: int = 0
    solver: str = SamplerSettings.solver
    steps: int = SamplerSettings.steps
    guidance: dict[str, float] = field(default_factory=dict)
    n: int = BATCH

    def combinations(self) -> list[dict[str, str]]:
        """The combinations that it draws from: one, or both ends of a mix."""
        if self.mix is None or self.mix[2] == 0:
            return [self.conditions]
        other = self.conditions | {self.mix[0]: self.mix[1]}
        return [other] if self.mix[2] == 1 else [self.conditions, other]

    def rows(self) -> pd.DataFrame:
        """A row per image. Noise goes by the seed and the number alone: another site gets the same noise."""
        values: dict[str, object] = dict(self.conditions)
        if self.mix is not None and 0 < self.mix[2] < 1:
            name, level, share = self.mix
            values[name] = Mix({str(values[name]): 1 - share, level: share})
        elif self.mix is not None:
            values = dict(self.combinations()[0])
        columns = {name: pd.Series([value] * self.n, dtype=object) for name, value in values.items()}
        return pd.DataFrame(columns).assign(noise_id=[f"app {i}" for i in range(self.n)])


@dataclass(frozen=True)
class Made:
    """What is there of a request so far; `nearest` comes with the last images, where there are real patches."""

    images: Images
    nearest: Neighbours | None = None
    done: bool = False


def sample(bench: Workbench, wish: Wish, tell: Tell) -> None:
    """Tell the images of a request, a few at a time, and at last the training patches nearest to them."""
    model, (settings, guides) = bench.model(wish.model), _settings(bench, wish)
    settings.guidance.check(model.schema, model.checkpoint.dropout, *(guide is not None for guide in guides))
    rows, made = wish.rows(), np.empty((0, *[model.size] * 2, 3), dtype=np.uint8)
    total = evaluations(settings) * -(-wish.n // AT_ONCE)
    with counted(model.denoiser, total, "sampling", tell):
        for start in range(0, wish.n, AT_ONCE):
            part = sample_images(model.denoiser, rows.iloc[start : start + AT_ONCE], wish.seed, settings, *guides)
            made = np.concatenate([made, part])
            tell(Made(made))
    tell(Progress(1, 1, "looking for the nearest training patches"))
    tell(Made(made, bench.nearest(made), done=True))


def _settings(bench: Workbench, wish: Wish) -> tuple[SamplerSettings, Guides]:
    """How the run samples, but for what the page chose, and what guides: a worse model, a classifier."""
    run = bench.settings.sampling
    worse = bench.model(wish.model).early if run.guidance.autoguidance else None
    weights = {name: weight for name, weight in wish.guidance.items() if weight}
    judge = bench.classifier if run.guidance.needs_classifier else None
    guidance = Guidance(
        weights,
        run.guidance.autoguidance if worse is not None else 0.0,
        run.guidance.interval,
        *((run.guidance.classifier, run.guidance.candidates) if judge is not None else (0.0, 1)),
    )
    eta = run.eta if wish.solver == run.solver else 0.0
    chosen = replace(
        run, steps=wish.steps, solver=wish.solver, batch=AT_ONCE, guidance=guidance, eta=eta, compile=False
    )
    return chosen, (worse, judge)


def evaluations(settings: SamplerSettings) -> int:
    """Of the model itself, for one batch; those of the worse one of autoguidance are not counted."""
    return replace(settings, guidance=replace(settings.guidance, autoguidance=0.0)).evaluations


# --- one patch at other levels ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Translation:
    """A patch translated to other levels: `frames` [k] from its own level to `target` at even shares, `stops` at each
    of some levels."""

    patch: UInt8[np.ndarray, "h w 3"]
    own: str
    target: str
    shares: Float[np.ndarray, " k"]
    frames: Images
    stops: dict[str, UInt8[np.ndarray, "h w 3"]]


def translate(model: Model, patch: Shown, attribute: str, target: str, tell: Tell) -> None:
    """Tell the translation of one patch, whose conditions stand in patch.table, to a level and then to all others."""
    row = patch.table.iloc[[0]].reset_index(drop=True)
    own = str(row[attribute].iloc[0])
    shares = np.linspace(0, 1, FRAMES)
    mixes = [Mix({own: 1 - share, target: share}) for share in shares] if own != target else [own] * FRAMES
    levels = [level for level in model.schema.attribute(attribute).levels if level not in (own, target)]
    stops = [own, target, *levels][: STOPS if own != target else 1]
    rows = pd.concat([row] * (len(mixes) + len(stops)), ignore_index=True)
    rows[attribute] = pd.Series([*mixes, *stops], dtype=object)
    up = Bridge(model.denoiser, model.checkpoint, TransferSettings(batch=1))
    down = replace(up, settings=replace(up.settings, batch=len(rows)))
    total = 2 * 2 * up.settings.steps
    with counted(model.denoiser, total, "translating the patch", tell):
        images = down.render(up.invert(patch.images[:1], row).repeat(len(rows), 1, 1, 1), rows)
    found = dict(zip(stops, images[len(mixes) :]))
    tell(Translation(patch.images[0], own, target, shares, images[: len(mixes)], found))


def own_patch(path: Path, model: Model, conditions: Mapping[str, str]) -> Shown:
    """A patch from an image file, with what is known of it."""
    cohort = read_images([path], model, conditions)
    check_scale(cohort, model.checkpoint)
    return Shown(cohort.images[:], cohort.table, "your patch", dict(conditions))


# --- a level that training never saw ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewLevel:
    """A model that has learned a level, and samples of it per class."""

    model: Model
    attribute: str
    level: str
    method: str
    seconds: float
    samples: dict[str, Images]


def learn(
    bench: Workbench,
    model: Model,
    patches: Cohort,
    attribute: str,
    level: str,
    seed: int,
    steps: int,
    tell: Tell,
    adapting: AdaptSettings | None = None,
) -> None:
    """Tell a model with one level more, learned from these patches, with rehearsal of the training patches; and what
    the level looks like in every class. It lies in the scratch folder; the run's own models stay as they are."""

    def advance(images: int, total: int) -> None:
        tell(Progress(images, total, f"learning {level}"))

    out = Path(mkdtemp(prefix="adapted-", dir=bench.scratch))
    made = adapt(model.path, patches, attribute, level, out, adapting, bench.training, advance)
    name = f"{model.name} + {level}"
    found = bench.add(name, out / MODEL_FILE, (attribute, level), len(patches), model)
    common = _commonest(patches, found, attribute)
    samples = {}
    for class_ in found.schema.classes.levels:
        wish = Wish(name, common | {"class": class_, attribute: level}, None, seed, steps=steps, n=ADAPTED)
        settings, guides = _settings(bench, wish)
        with counted(found.denoiser, evaluations(settings), f"sampling {class_}", tell):
            samples[class_] = sample_images(found.denoiser, wish.rows(), seed, settings, *guides)
    tell(NewLevel(found, attribute, level, made.method, made.record["seconds"], samples))


def _commonest(patches: Cohort, model: Model, attribute: str) -> dict[str, str]:
    """The commonest value of each further condition among some patches."""
    others = [a.name for a in model.schema.attributes if a.name != attribute]
    return {name: str(patches.table[name].mode().iloc[0]) for name in others}


def read_images(paths: Sequence[Path], model: Model, conditions: Mapping[str, str]) -> Cohort:
    """Image files as patches with these conditions; what is not said is not known."""
    if not paths:
        raise MediError("no patches yet: choose some image files")
    images = read_patches(paths, [path.name for path in paths])
    names = [f"{i} {path.name}" for i, path in enumerate(paths)]
    table = pd.DataFrame({"sample_id": names, "patient": "", "slide": ""})
    columns = {a.name: conditions.get(a.name, _unknown(a)) for a in model.schema.conditions}
    return Cohort(table.assign(**columns), model.schema, Pixels.of(images))


def _unknown(attribute: Attribute) -> str:
    return (*attribute.missing, "")[0]
