"""May a gain be claimed? The gate that every set of generated images passes, and its verdict in sentences (P13).

The limits stand in `medi.core.claims`. Everything is read from result tables, of a study or of single verbs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from medi.core.claims import HALF_WAY, LEAST_RECALL, PRIMARY
from medi.core.set_names import NORMALISATIONS, filtered_name, normalised_name, parts_of
from medi.core.tables import DIFFERENCE, of_main_probe
from medi.figures.names import DASH, arm_name, interval, known, number, share, short, split_title
from medi.report.remedies import EVERY, NEW_SITES, NOISE, REAL, chance_of, is_fixed, is_generated, remedies
from medi.report.run import pick

TRAIN_LONGER = "train longer (continue with `medi train --images`)"
OLDER = (
    "Whether a classifier gains is not said: this run is of an older version, which compared nothing with pure noise. "
    "Run the study again."
)
BESIDE = {"unseen": "unseen", "seen": "seen", NEW_SITES: "at sites unseen as a whole", "worst_five": "the five worst"}
CLS = "cls"  # the model that knows the class alone
LISTED = 3  # remedies that a sentence names


@dataclass(frozen=True)
class Figure:
    """A number with its 95 % interval; NaN where undefined."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        return f"{_decimals(self.value)}{interval(self.low, self.high, _decimals)}"


def _decimals(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if known(value) else DASH


@dataclass(frozen=True)
class Judged:
    """What may be said of one set of generated images.

    reached: its primary endpoint; gain, over_noise: less real only, less pure noise. refused: why no gain is claimed,
    "" where one is. unusable: why its images are not usable, "" where they are.
    """

    arm: str
    reached: Figure
    gain: Figure
    over_noise: Figure
    chance: float
    refused: str
    unusable: str

    @property
    def gains(self) -> bool:
        """Whether a gain is claimed."""
        return not self.refused and not self.unusable

    @property
    def hurts(self) -> bool:
        """Whether the classifier is worse than with real images alone, for certain."""
        return self.gain.high < 0


def judge(
    utility: pd.DataFrame, control: pd.DataFrame | None = None, fidelity: pd.DataFrame | None = None
) -> list[Judged]:
    """Every set of generated images that was compared with the others, in the order of the table of one task.

    Empty where the primary endpoint was not measured: tables of version 0.1.
    """
    rows, control = remedies(utility), None if control is None else of_main_probe(control)
    chance = chance_of(rows)
    gaps = pick(utility, metric=f"{PRIMARY}{DIFFERENCE}", scope="all", split=EVERY)
    if gaps.empty or chance is None:
        return []
    given = [str(arm) for arm in gaps["arm"].unique() if not parts_of(arm)[1]]  # normalised sets are no further images
    return [_judged(arm, rows, gaps[gaps["arm"] == arm], chance, control, fidelity) for arm in given]


def _judged(
    arm: str,
    rows: pd.DataFrame,
    gaps: pd.DataFrame,
    chance: float,
    control: pd.DataFrame | None,
    fidelity: pd.DataFrame | None,
) -> Judged:
    reached = _figure(rows[rows["arm"] == arm])
    gain, over_noise = (_figure(gaps[gaps["against"] == other]) for other in (REAL, NOISE))
    unusable = "; ".join([*_not_shown(arm, control), *_of_few_kinds(arm, fidelity)])
    refused = _refused(reached, gain, over_noise, chance)
    if not known(reached.value):
        why = str(rows.loc[rows["arm"] == arm, "reason"].iloc[0])
        refused = f"its mean recall is not known ({why})" if why else "its mean recall is not known"
    return Judged(arm, reached, gain, over_noise, chance, refused, unusable)


def _figure(rows: pd.DataFrame) -> Figure:
    return Figure(*(float(rows[name].iloc[0]) for name in ("value", "low", "high"))) if len(rows) else Figure()


def _refused(reached: Figure, gain: Figure, over_noise: Figure, chance: float) -> str:
    """Why no gain is claimed: each limit that does not hold. An undefined limit does not hold."""
    found = [
        "" if reached.low > chance else f"not above chance ({number(chance)})",
        "" if over_noise.low > 0 else f"not above pure noise (difference {over_noise})",
        "" if gain.low > 0 else f"not above real images alone (difference {gain})",
    ]
    return "; ".join(filter(None, found))


def _not_shown(arm: str, control: pd.DataFrame | None) -> Iterator[str]:
    """Where images clearly do not show the class or the level that was asked for."""
    for attribute, split, chance, real, made in _asked_of(arm, control):
        least = chance + HALF_WAY * (real - chance)
        if real > chance and made.high < least:  # else the probe is blind there
            yield (
                f"by a probe, {share(made.value)} of the images of {split_title(split)} show the {attribute} that was "
                f"asked for, real ones {share(real)}; half-way from chance is {share(least)}"
            )


def _blind(judged: Sequence[Judged], control: pd.DataFrame | None) -> list[str]:
    """Where the probe is no better than chance on real images, so that it judges nothing."""
    control = None if control is None else of_main_probe(control)
    found = {
        f"Whether images of {split_title(split)} show the {attribute} that was asked for is not known: the probe "
        f"recognises {share(real)} of the real ones, where chance is {share(chance)}.": None
        for one in judged
        for attribute, split, chance, real, _ in _asked_of(one.arm, control)
        if real <= chance
    }
    return list(found)


def _asked_of(arm: str, control: pd.DataFrame | None) -> Iterator[tuple[str, str, float, float, Figure]]:
    """Attribute, split, chance, the share of real images that show what they are, and that of a set as asked."""
    rows = pd.DataFrame() if control is None else pick(control, metric="as_asked", scope="all", arm=[REAL, arm])
    for (attribute, split), pair in rows.groupby(["attribute", "split"], sort=False) if len(rows) else ():
        levels = _levels(control, str(attribute))
        real, made = (pair[pair["arm"] == name] for name in (REAL, arm))
        if (
            levels and len(real) and len(made) and (arm != CLS or attribute == "class")
        ):  # CLS is asked for a class alone
            yield str(attribute), str(split), 1 / levels, float(real["value"].iloc[0]), _figure(made)


def _levels(control: pd.DataFrame | None, attribute: str) -> int:
    """How many levels the probe of an attribute tells apart."""
    if control is None or attribute not in control:
        return 0
    rows = pick(control, metric="as_asked", scope=attribute, attribute=attribute)
    return int(rows[attribute].nunique()) if len(rows) else 0


def _of_few_kinds(arm: str, fidelity: pd.DataFrame | None) -> Iterator[str]:
    """Where images cover almost nothing of what real ones are."""
    rows = pd.DataFrame() if fidelity is None else pick(fidelity, metric="recall", scope="combination_mean", arm=arm)
    for split, value in zip(rows["split"], rows["value"]) if len(rows) else ():
        if value < LEAST_RECALL:
            yield f"they cover {share(value)} of the real patches of {split_title(str(split))}"


# --- in sentences -----------------------------------------------------------------------------------------------------


def verdict(
    utility: pd.DataFrame, control: pd.DataFrame | None = None, fidelity: pd.DataFrame | None = None
) -> list[str]:
    """The verdict on every set of generated images, a sentence each; first whether images are usable at all."""
    rows, judged = remedies(utility), judge(utility, control, fidelity)
    if not judged:
        return [_nothing_judged(utility, rows)]
    first, *others = judged
    unusable = [
        f"{_images(found)} are not usable yet: {found.unusable}; {TRAIN_LONGER}." for found in judged if found.unusable
    ]
    return [
        *unusable,
        f"{_claim(first)} {_numbers(first, rows)}",
        *_blind(judged, control),
        " ".join(_remedies_beside(first, rows, utility)) or "No remedy without a generator was tried.",
        *(_claim(other) for other in others),
    ]


def _nothing_judged(utility: pd.DataFrame, rows: pd.DataFrame) -> str:
    if utility.empty:
        return "Whether a classifier gains is not known: no classifier has been trained yet."
    if rows.empty:
        return OLDER
    return "There are no generated images to judge."


def _images(found: Judged) -> str:
    return f"The images of {arm_name(found.arm)}"


def _claim(found: Judged) -> str:
    name = arm_name(found.arm)
    if found.gains:
        return f"{name} is a gain: mean recall over all combinations rises by {found.gain} over real images alone."
    said = [found.refused] if found.refused else ["its images are not usable yet"]
    hurt = f" {name} hurts: mean recall changes by {found.gain} against real images alone." if found.hurts else ""
    return f"No gain is claimed for {name}: {'; '.join(said)}.{hurt}"


def _numbers(found: Judged, rows: pd.DataFrame) -> str:
    """The primary endpoint with what stands beside it, and how many patches it is measured on."""
    own, real = (rows[rows["arm"] == name].iloc[0] for name in (found.arm, REAL))
    beside = ", ".join(
        f"{name} {_decimals(own[key])} (real only {_decimals(real[key])})"
        for key, name in BESIDE.items()
        if key in own and known(own[key])
    )
    without = _figure(rows[rows["arm"] == REAL])
    return (
        f"Mean recall over all combinations is {found.reached} with {arm_name(found.arm)} and {without} with real "
        f"images alone, where chance is {number(found.chance)} (n = {number(own['n_real'])} test patches of "
        f"{number(own['n_patients'])} patients). Of these combinations: {beside}."
    )


def beside(utility: pd.DataFrame) -> list[str]:
    """The remedies that need no generator against the first set of generated images, a sentence or a few."""
    judged = judge(utility)
    return list(_remedies_beside(judged[0], remedies(utility), utility)) if judged else []


def _remedies_beside(found: Judged, rows: pd.DataFrame, utility: pd.DataFrame) -> Iterator[str]:
    """The remedies that need no generator: above the set, not told apart from it, below it. None is called the best."""
    gaps = pick(utility, metric=f"{PRIMARY}{DIFFERENCE}", scope="all", split=EVERY, arm=found.arm)
    others = [str(arm) for arm in rows["arm"] if not is_fixed(arm) and not _generated(utility, str(arm))]
    told = {arm: _figure(gaps[gaps["against"] == arm]) for arm in others}
    told = {arm: gap for arm, gap in told.items() if known(gap.value)}
    above = [arm for arm, gap in told.items() if gap.high < 0]
    level = [arm for arm, gap in told.items() if gap.low <= 0 <= gap.high or not known(gap.low)]
    name = arm_name(found.arm)
    if above:
        listed = _listed(above, [f"difference {told[arm]}" for arm in above])
        yield f"Better than {name}, and no model is needed: {listed}."
    for arm in level[:LISTED]:
        other = arm_name(arm)
        yield f"{_capital(other)} and {name} are not told apart (difference {told[arm]}); {other} needs no model."
    if rest := level[LISTED:]:
        yield f"Not told apart from {name} are also {_listed(rest)}; they need no model."
    if below := [arm for arm in told if arm not in (*above, *level)]:
        verb = "is" if len(below) == 1 else "are"
        yield f"Of the {len(told)} remedies that need no generator, {len(below)} {verb} below {name}."
    yield from _together(found.arm, rows, utility)


def _together(arm: str, rows: pd.DataFrame, utility: pd.DataFrame) -> Iterator[str]:
    """The set and stain normalisation together, filtered or not, beside the normalisation alone."""
    gaps = pick(utility, metric=f"{PRIMARY}{DIFFERENCE}", scope="all", split=EVERY)
    reached = rows.set_index("arm")["value"]
    for name, by in product((arm, filtered_name(arm)), NORMALISATIONS):
        both = normalised_name(name, by)
        gap = _figure(gaps[(gaps["arm"] == both) & (gaps["against"] == by)])
        if known(gap.value):
            yield (
                f"With {arm_name(by)} of all patches, mean recall is {_decimals(reached[both])} with {arm_name(name)} "
                f"and {_decimals(reached[by])} without (difference {gap})."
            )


def _generated(utility: pd.DataFrame, arm: str) -> bool:
    return is_generated(utility[utility["arm"] == arm].iloc[0])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(arms: Sequence[str], notes: Sequence[str] = ()) -> str:
    named = (
        [f"{arm_name(arm)} ({note})" for arm, note in zip(arms, notes)] if notes else [arm_name(arm) for arm in arms]
    )
    more = len(named) - LISTED
    return ", ".join(named[:LISTED]) + (f" and {more} more" if more > 0 else "")


def worst_class(control: pd.DataFrame | None, arm: str, split: str = "unseen") -> tuple[str, Figure, Figure] | None:
    """The class that the images of a set show least often as asked: its name, their share, and that of real patches.

    The least is taken of the shares relative to real patches, so that a class that the probe cannot see does not count
    against the images.
    """
    if control is None or control.empty or "class" not in control:
        return None
    rows = pick(
        of_main_probe(control), metric="as_asked", attribute="class", scope="class", split=split, arm=[REAL, arm]
    )
    if not {REAL, arm} <= set(rows["arm"]) if len(rows) else True:
        return None
    wide = rows.pivot_table(index="class", columns="arm", values="value", sort=False).dropna()
    wide = wide[wide[REAL] > 0]
    if wide.empty:
        return None
    name = str((wide[arm] / wide[REAL]).idxmin())
    real, made = (_figure(rows[(rows["class"] == name) & (rows["arm"] == which)]) for which in (REAL, arm))
    return short(name), made, real
