"""The study arms "unseen hospital": a level that training never saw, learned from its first k unlabelled patches.

For each k two sets of every class at the new level are added to the real patches of the old ones: images sampled there
("medi"), and old patches translated to it, their tissue kept ("translated"). The probe is tested at the new level,
beside old patches alone and beside labelled patches of the new level ("oracle"). k = 0 is the mean of the known levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.claims import LEAST_IMAGES
from medi.core.seeds import generator
from medi.core.tables import CURVES, FIDELITY, UTILITY
from medi.evaluation.classify import utility
from medi.evaluation.classify.arms import Arm
from medi.evaluation.encoders import Encoder, embedded
from medi.evaluation.features import FLOOR
from medi.evaluation.fidelity import compare as fidelity
from medi.models.checkpoint import load_checkpoint, load_model, save_model
from medi.sampling.generate import generate
from medi.sampling.sampler import SamplerSettings
from medi.sampling.transfer import TransferSettings, filling, transfer
from medi.training.adaptation.adapt import adapt
from medi.training.adaptation.learning import AdaptSettings
from medi.training.adaptation.levels import extended

COUNTS = (0, 10, 30, 60, 240)
SPLIT = "unseen"
REAL, ORACLE = "real", "oracle"  # names that `utility` knows
SAMPLED, TRANSLATED = "medi", "translated"


@dataclass(frozen=True)
class Newcomer:
    """A level and its patches, no slide in two sets: `learn` in the order in which they come (a class "" is not known),
    `test` and `floor` to measure with, `oracle` to compare with; all but `learn` labelled."""

    attribute: str
    name: str
    learn: Cohort
    test: Cohort
    floor: Cohort
    oracle: Cohort


@dataclass(frozen=True)
class Asked:
    """Counts of patches, images per class to add and per distance; how to learn, sample and translate."""

    counts: tuple[int, ...] = COUNTS
    per_class: int = 150
    distance_images: int = 100
    adapting: AdaptSettings = field(default_factory=AdaptSettings)
    sampling: SamplerSettings = field(default_factory=SamplerSettings)
    translating: TransferSettings = field(default_factory=TransferSettings)
    seed: int = 0


def unseen_level(model: Path, old: Cohort, new: Newcomer, out: Path, extractor: Encoder, asked: Asked) -> pd.DataFrame:
    """The curve over k, as `core.tables.CURVES` has it; goes on after an interruption.

    `old` are the training patches of `model`, which does not know the level. Arms real, oracle and floor do not depend
    on k and stand at each. Metrics: balanced_accuracy, gap_closed (intervals resample slides), frechet (mean over the
    classes of the test), frechet_worst_ratio (the largest class's over its floor), seconds (of the adaptation).
    Writes out/k<k>/ (model, samples, translated) and out/tables/ (utility, fidelity, curves).
    """
    made: dict[str, Cohort] = {}
    seconds = {}
    for k in asked.counts:
        path, seconds[k] = _learned(model, old, new, k, out / f"k{k}", asked)
        made[arm_of(SAMPLED, k)] = _sampled(path, old, new, out / f"k{k}" / "samples", asked)
        made[arm_of(TRANSLATED, k)] = _translated(path, old, new, out / f"k{k}" / "translated", asked)
    over = ("class", new.attribute)
    sets = {name: embedded(cohort, extractor) for name, cohort in made.items()}
    real, test, floor, more = (embedded(c, extractor) for c in (old, new.test, new.floor, new.oracle))
    arms = [Arm(REAL, real), Arm(ORACLE, real.join(more))]
    arms += [Arm(name, real.join(extra)) for name, extra in sets.items()]
    accuracy = utility.evaluate(arms, {SPLIT: test}, over=over, seed=asked.seed)
    distance = fidelity.per_combination(
        test, floor, sets, over=over, n=asked.distance_images, seed=asked.seed, encoder=extractor.name
    )
    table = _curves(accuracy, distance, seconds, asked)
    for kind, found in ((UTILITY, accuracy), (FIDELITY, distance), (CURVES, table)):
        kind.write(out / "tables", found)
    return table


def without_level(cohort: Cohort, attribute: str, level: str) -> Cohort:
    """A cohort as if it had never had this level: neither its rows nor its name."""
    kept = cohort.select((cohort.table[attribute] != level).to_numpy())
    attributes = [
        replace(a, levels=tuple(name for name in a.levels if name != level)) if a.name == attribute else a
        for a in cohort.schema.attributes
    ]
    return Cohort(kept.table, Schema(cohort.schema.classes, tuple(attributes)), kept.pixels, cohort.info)


def arm_of(kind: str, k: int) -> str:
    """How the tables name an arm that learned from k patches; kind is SAMPLED or TRANSLATED."""
    return f"{kind}, {k} patches"


def _learned(model: Path, old: Cohort, new: Newcomer, k: int, out: Path, asked: Asked) -> tuple[Path, float]:
    """The model that knows the level from its first k patches, and how long that took."""
    path = out / "model.safetensors"
    if not path.exists() and k == 0:
        denoiser, checkpoint = load_model(model)
        save_model(path, extended(denoiser, new.attribute, new.name), replace(checkpoint, base=checkpoint.hash))
    elif not path.exists():
        patches = new.learn.select(np.arange(k))
        adapt(model, patches, new.attribute, new.name, out, asked.adapting, rehearsal=old)
    records = load_checkpoint(path).adaptations
    return path, float(records[-1]["seconds"]) if k else 0.0


def _sampled(model: Path, old: Cohort, new: Newcomer, out: Path, asked: Asked) -> Cohort:
    """As many images of every class at the new level; other attributes are drawn from old patches of the class."""
    classes = sorted(set(new.test.table["class"]))
    donors = [_donors(old, name, asked) for name in classes]
    others = [a.name for a in old.schema.attributes if a.name != new.attribute]
    rows = old.table.iloc[np.concatenate(donors)][["class", *others]].reset_index(drop=True)
    names = [f"{name}.{new.name}.{i:06d}" for name in classes for i in range(asked.per_class)]
    rows = rows.assign(sample_id=names, noise_id=names, **{new.attribute: new.name})
    return _as_test(generate(model, rows, out, asked.seed, asked.sampling), new)


def _translated(model: Path, old: Cohort, new: Newcomer, out: Path, asked: Asked) -> Cohort:
    """As many old patches of every class at the new level, all of a class that has fewer."""
    schema, known = load_checkpoint(model).schema, old.table["class"].value_counts()
    wanted = [name for name in sorted(set(new.test.table["class"])) for _ in range(min(asked.per_class, known[name]))]
    plan = pd.DataFrame({"class": wanted, new.attribute: new.name})
    rows = filling(old, schema, new.attribute, plan, asked.seed)
    return _as_test(transfer(model, old, rows, out, asked.translating), new)


def _as_test(made: Cohort | None, new: Newcomer) -> Cohort:
    """Under the name that the test patches have for the level."""
    assert made is not None, "this process alone makes all batches"
    return made.with_columns(**{new.attribute: new.test.table[new.attribute].iloc[0]})


def _donors(old: Cohort, class_: str, asked: Asked) -> Int64[np.ndarray, " n"]:
    """Positions of the old patches of a class that lend their other attributes."""
    found = np.flatnonzero(old.table["class"] == class_)
    return found[generator("unseen level", asked.seed, class_).integers(len(found), size=asked.per_class)]


def _curves(accuracy: pd.DataFrame, distance: pd.DataFrame, seconds: dict[int, float], asked: Asked) -> pd.DataFrame:
    rows: list[Mapping[str, object]] = []
    whole = accuracy[(accuracy["scope"] == "all") & (accuracy["split"] == SPLIT)]
    for k in asked.counts:
        place = {"split": SPLIT, "x_name": "patches", "x": k, "seed": asked.seed}
        named = {REAL: REAL, ORACLE: ORACLE, arm_of(SAMPLED, k): SAMPLED, arm_of(TRANSLATED, k): TRANSLATED}
        for row in whole[whole["arm"].isin(named)].itertuples():
            found = {"arm": named[str(row.arm)], "metric": row.metric, "value": row.value, "reason": row.reason}
            rows.append(place | found | {"low": row.low, "high": row.high})
        for metric, arm, value in (*_distances(distance, k), ("seconds", SAMPLED, seconds[k])):
            why = "" if np.isfinite(value) else f"fewer than {LEAST_IMAGES} images of some class"
            rows.append(
                place | {"arm": arm, "metric": metric, "value": value, "low": np.nan, "high": np.nan, "reason": why}
            )
    columns = ["arm", "against", "split", "metric", "x_name", "x", "seed", "value", "low", "high", "reason"]
    return pd.DataFrame(rows).assign(against="")[columns]


def _distances(table: pd.DataFrame, k: int) -> Sequence[tuple[str, str, float]]:
    """metric, arm and value: means over classes, and the worst class's ratio to its floor."""
    rows = table[(table["metric"] == "frechet") & (table["scope"] == "combination")]
    wide = rows.pivot(index="class", columns="arm", values="value")
    found = [("frechet", FLOOR, float(wide[FLOOR].mean()))]
    for kind in (SAMPLED, TRANSLATED):
        made = wide[arm_of(kind, k)]
        found += [("frechet", kind, float(made.mean()))]
        found += [("frechet_worst_ratio", kind, float((made / wide[FLOOR]).max()))]
    return found
