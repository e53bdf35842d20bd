"""Arms: the training sets that one head is compared on, from real rows alone, with synthetic ones, or with both.

An inductive arm is made of training rows and its generator; only arms of the transductive panel have seen test rows.
Arms are made by functions of `Material` in the registry "arm": a user's stand beside those of this module.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.core.errors import MediError, did_you_mean
from medi.core.registry import register, registry
from medi.core.set_names import FILTERED, ONLY, filtered_name
from medi.evaluation.classify import alignment, reweighting
from medi.evaluation.classify.agreed import agreed
from medi.evaluation.classify.heads.contract import Undefined
from medi.evaluation.classify.reweighting import Method
from medi.evaluation.classify.scoring import MEDI, ORACLE, REAL
from medi.evaluation.features import Embedded, Features

INDUCTIVE, TRANSDUCTIVE = "inductive", "transductive"
ALL, NONE = "all", "none"  # names of every arm of the registry, and of none


@dataclass(frozen=True)
class Arm:
    """A training set: its embedded rows, whose column `origin`, if there, is "real" or a model's hash.

    method: what is made of its rows; trains: the rows that train (others only help to choose C); tests: the test
    splits where the arm embeds them in its own way; reason: why there is no such training set, where there is none.
    """

    name: str
    rows: Embedded
    method: Method = reweighting.plain
    panel: str = INDUCTIVE
    trains: Bool[np.ndarray, " n"] | None = None
    tests: Mapping[str, Features] | None = None
    reason: str = ""

    @property
    def embeddings(self) -> Features:
        return self.rows.features

    @property
    def table(self) -> pd.DataFrame:
        return self.rows.table

    @property
    def chosen(self) -> Bool[np.ndarray, " n"]:
        return np.ones(len(self.table), dtype=bool) if self.trains is None else self.trains


@dataclass(frozen=True)
class Material:
    """What arms are made of.

    real: training rows; synthetic: the rows that each generator adds, by name; tests: test rows by split; over: the
    columns whose combinations count; head: the classifier that the arms are for; oracle: real rows of combinations that
    training lacks; reference: the synthetic set that others are compared with, by default that of `reference_of`.
    MediError where the reference is none of the sets.
    """

    real: Embedded
    synthetic: Mapping[str, Embedded]
    tests: Mapping[str, Embedded]
    over: Sequence[str] = ("class", "site")
    seed: int = 0
    head: str = "tuned"
    oracle: Embedded | None = None
    reference: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", self.reference or reference_of(self.synthetic))
        check_reference(self.reference, self.synthetic)

    @property
    def compared(self) -> list[str]:
        """The synthetic sets, the reference first."""
        return [self.reference, *(name for name in self.synthetic if name != self.reference)] if self.synthetic else []


Maker = Callable[[Material], Arm | None]  # None where the material has nothing to make the arm of


def arms_of(material: Material, names: Sequence[str] = (ALL,)) -> list[Arm]:
    """The real rows alone, with each synthetic set and with the oracle's, and the arms of the registry that are named.

    names: "all", "none", or names of the registry; of the reference set there are also NAME_filtered (what a head of
    the real rows agrees with) and NAME_only. An arm that is named but cannot be made here is a MediError, as is a name
    that is not known.
    """
    check_arms(names, material.reference)
    makers: dict[str, Maker] = {name: registry("arm")[name] for name in registry("arm")}
    makes: dict[str, Maker] = {FILTERED: filtered_arm, ONLY: only_arm}
    own = {f"{material.reference}{end}": make for end, make in makes.items()} if material.reference else {}
    arms = [Arm(REAL, material.real), *_made(material, makers, names)]
    arms += [Arm(name, material.real.join(rows)) for name, rows in material.synthetic.items()]
    arms += _made(material, own, names)
    return [*arms, *([Arm(ORACLE, material.real.join(material.oracle))] if material.oracle is not None else [])]


def check_arms(names: Sequence[str], reference: str, more: Sequence[str] = ()) -> None:
    """Refuse a name that is no arm. reference: the set that others are compared with; more: names of other arms."""
    own = [f"{reference}{FILTERED}", f"{reference}{ONLY}"] if reference else []
    arms = [*registry("arm"), *own, *more]
    if unknown := [name for name in names if name not in (ALL, NONE, *arms)]:
        known = ", ".join([ALL, NONE, *arms])
        raise MediError(f"arm {unknown[0]!r} is unknown; known: {known}{did_you_mean(unknown[0], arms)}")


def check_reference(reference: str, synthetic: Collection[str]) -> None:
    """Refuse a reference that is none of the sets; "" is none."""
    if reference not in (*synthetic, ""):
        raise MediError(f"reference {reference!r} is no synthetic set; there are {', '.join(synthetic) or 'none'}")


def _made(material: Material, makers: Mapping[str, Maker], names: Sequence[str]) -> Iterator[Arm]:
    for name, make in makers.items():
        if ALL in names or name in names:
            arm = make(material)
            if arm is not None:
                yield arm
            elif name in names:
                raise MediError(
                    f"arm {name} cannot be made here: head {material.head}, over {', '.join(material.over)}"
                )


def reference_of(synthetic: Collection[str]) -> str:
    """The synthetic set that others are compared with where none is named: "medi", else the first; "" without any."""
    return MEDI if MEDI in synthetic else next(iter(synthetic), "")


def _weighted(name: str, method: Method, material: Material) -> Arm | None:
    """The real rows under a method; nothing where the head does the same by itself or has an objective of its own."""
    same = "unweighted" if material.head == "uni" else "class_weights"
    if name == same or (name == "group_dro" and material.head != "tuned"):
        return None
    return Arm(name, material.real, method)


for _name, _method in {
    "unweighted": reweighting.unweighted,
    "class_weights": reweighting.class_weights,
    "combination_weights": reweighting.combination_weights,
    "group_dro": reweighting.group_dro,
    "dfr": reweighting.dfr,
    "mixup": reweighting.mixup,
    "lisa": reweighting.lisa,
}.items():
    registry("arm").add(_name, partial(_weighted, _name, _method))


@register("arm", "resampled")
def resampled_arm(material: Material) -> Arm | None:
    """The real rows drawn again, combinations alike, until there are as many as with the reference set."""
    if not material.reference:
        return None
    to = len(material.real) + len(material.synthetic[material.reference])
    return Arm("resampled", material.real, reweighting.resampled(to))


@register("arm", "coral")
def coral_arm(material: Material) -> Arm | None:
    """Training sites recoloured to one another; test rows by the map that training found for their site."""
    if len(material.over) < 2:
        return None
    found = alignment.Coral.fit(material.real, material.over)
    moved = {split: found.apply(test) for split, test in material.tests.items()}
    return Arm("coral", Embedded(found.apply(material.real), material.real.table), tests=moved)


@register("arm", "site_centred")
def centred_arm(material: Material) -> Arm | None:
    """Sites centred, test sites by their own unlabelled rows: transductive."""
    if len(material.over) < 2:
        return None
    train = Embedded(alignment.centred({REAL: material.real}, material.over)[REAL], material.real.table)
    tests = alignment.centred(material.tests, material.over)
    return Arm("site_centred", train, panel=TRANSDUCTIVE, tests=tests)


def filtered_arm(material: Material) -> Arm:
    """Real rows, and those of the reference set whose class a head of the real rows agrees with."""
    both = material.real.join(material.synthetic[material.reference])
    return filtered(Arm(material.reference, both), len(material.real), material.over, material.seed)


def filtered(arm: Arm, reals: int, over: Sequence[str], seed: int) -> Arm:
    """A set, whose first `reals` rows are real, without the others that a head of the real ones does not agree with."""
    name = filtered_name(arm.name)
    is_real = np.arange(len(arm.rows)) < reals
    if arm.reason:
        return replace(arm, name=name)
    real = arm.rows.take(is_real)
    try:
        kept = agreed(real, arm.rows.take(~is_real), over, seed)
    except Undefined as error:
        return replace(arm, name=name, rows=real, reason=str(error))
    return replace(arm, name=name, rows=arm.rows.take(np.concatenate([is_real[:reals], kept])))


def only_arm(material: Material) -> Arm:
    """The rows of the reference set; real ones only help to choose the penalty."""
    both = material.real.join(material.synthetic[material.reference])
    return Arm(f"{material.reference}{ONLY}", both, trains=np.arange(len(both)) >= len(material.real))
