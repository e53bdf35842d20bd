"""The interval of FD(R, A) - FD(R, B): a jackknife over slides and images, corrected to second order.

Where A is nearly as good as B, the Frechet distance is a degenerate quadratic statistic: a bootstrap finds three times
its variance, a jackknife twice. Leaving out pairs of blocks as well shows the quadratic part, whose excess is taken
off (Efron and Stein, Annals of Statistics 1981, section 4, on the bias of the jackknife's variance).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from medi.core.seeds import Key, generator
from medi.evaluation.fidelity.frechet import resampled_distances
from medi.evaluation.statistics import Estimate, cluster_index, t_interval

BLOCKS = 20  # of slides with as many parts of the images, and parts of the images alone
CORRECTED = 4  # blocks that the correction needs

Groups = Int64[np.ndarray, " n"]
Values = Float64[np.ndarray, " k"]


@dataclass(frozen=True)
class Leaving:
    """What is left out of n real rows and n images of one comparison, each row by the number of its group.

    slides: of the real rows; real, made: the same number is left out of both together, `blocks` in all; parts: of the
    images alone; strata: of all slides, of which this comparison may lack some.
    """

    slides: Groups
    real: Groups
    made: Groups
    parts: Groups
    strata: Int64[np.ndarray, " slides"]
    blocks: int

    @classmethod
    def of(
        cls, slides: Sequence[str], combinations: Groups, members: Mapping[str, str], key: Sequence[Key]
    ) -> "Leaving":
        """From the slide of each real row and the combination of each image.

        members: all slides that are left out in turn, and the stratum of each; comparisons that share slides name the
        same ones, so that their values belong together. Slides and images are dealt to blocks at random, by the key.
        """
        place = {name: number for number, name in enumerate(members)}
        own = np.array([place[name] for name in slides], dtype=np.int64)
        blocks, strata = min(len(members), BLOCKS), cluster_index(list(members.values()))
        return cls(
            slides=own,
            real=_dealt(strata, blocks, ("slides", *key))[own],
            made=_dealt(combinations, blocks, ("images", *key)),
            parts=_dealt(combinations, BLOCKS, ("parts", *key)),
            strata=strata,
            blocks=blocks,
        )


def _dealt(strata: Groups, groups: int, key: Sequence[Key]) -> Groups:
    """A random group of each row, every stratum shared out as evenly as it can be."""
    order = np.lexsort([generator("left out", *key).random(len(strata)), strata])
    found = np.empty(len(strata), dtype=np.int64)
    found[order] = np.arange(len(strata)) % groups
    return found


@dataclass(frozen=True)
class LeftOut:
    """FD(R, A) as it is, without each block, without each pair of blocks (in the order of `combinations`), without
    each slide, and without each part of the images."""

    whole: Float64[np.ndarray, " 1"]
    block: Float64[np.ndarray, " blocks"]
    pair: Float64[np.ndarray, " pairs"]
    slide: Float64[np.ndarray, " slides"]
    part: Float64[np.ndarray, " parts"]
    strata: Int64[np.ndarray, " slides"]  # of the slides

    @classmethod
    def of(cls, real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "n d"], leaving: Leaving) -> "LeftOut":
        """All distances of one arm. What would leave fewer than two rows of a set is not left out of it."""
        pairs = list(combinations(range(leaving.blocks), 2))
        together = [*((j,) for j in range(leaving.blocks)), *pairs]
        slides, n = range(len(leaving.strata)), len(real)
        without_real = [*(np.isin(leaving.real, left) for left in together), *(leaving.slides == k for k in slides)]
        without_made = [np.isin(leaving.made, left) for left in together]
        nothing = [np.zeros(n, dtype=bool)]
        without_real = [*nothing, *without_real, *nothing * BLOCKS]
        without_made = [*nothing, *without_made, *nothing * len(slides), *(leaving.parts == k for k in range(BLOCKS))]
        found = resampled_distances(real, [made], _kept(without_real), [_kept(without_made)])[:, 0]
        whole, block, pair, slide, part = np.split(found, np.cumsum([1, leaving.blocks, len(pairs), len(slides)]))
        return cls(whole, block, pair, slide, part, leaving.strata)

    @staticmethod
    def mean(several: "Sequence[LeftOut]") -> "LeftOut":
        """Of comparisons with the same slides and blocks."""
        whole, block, pair, slide, part = (np.mean([getattr(one, n) for one in several], axis=0) for n in VALUES)
        return LeftOut(whole, block, pair, slide, part, several[0].strata)


def _kept(without: Sequence[Bool[np.ndarray, " n"]]) -> Float64[np.ndarray, "draws n"]:
    """How often each row is taken, where these rows are left out."""
    counts = 1.0 - np.stack(without)
    counts[counts.sum(axis=1) < 2] = 1.0
    return counts


VALUES = ("whole", "block", "pair", "slide", "part")
Stratum = tuple[float, LeftOut, LeftOut]  # its share of all comparisons, and the distances of the two arms


def frechet_difference(value: float, strata: Sequence[Stratum], draws: int) -> Estimate:
    """A difference of Frechet distances with its 95 % interval and p-value, by Student's t.

    strata: all comparisons that share no slide with others, their distances averaged within each; `value` is their
    mean difference. Without strata there is one slide and no interval; without draws none is wanted.
    """
    if not draws or not np.isfinite(value):
        return Estimate(value)
    spread = [share**2 * variance(first, second) for share, first, second in strata]
    return t_interval(value, float(sum(spread)), sum(len(first.block) - 1 for _, first, _ in strata))


def variance(first: LeftOut, second: LeftOut) -> float:
    """Of FD(R, A) - FD(R, B), about its expectation at this number of slides and images.

    The jackknife's variances over slides of each stratum, over A and over B add up. `extra` is what the quadratic part
    of pairs of blocks adds to them beyond its own variance; fewer than 4 blocks do not tell it.
    """
    slides = first.slide - second.slide
    linear = sum(_spread(slides[first.strata == stratum]) for stratum in np.unique(first.strata))
    linear += _spread(first.part) + _spread(second.part)
    count = len(first.block)
    if count < CORRECTED:
        return linear
    interaction = _interaction(*(getattr(first, name) - getattr(second, name) for name in ("whole", "block", "pair")))
    extra = interaction * (4 / (count * (count - 2)) - 2 / (count * (count - 1)))
    return max(linear - extra, linear * (count - 2) / (2 * (count - 1)))


def _spread(values: Values) -> float:
    """The jackknife's variance: (K - 1) / K times the sum of squares about the mean."""
    return float((len(values) - 1) / len(values) * np.sum((values - values.mean()) ** 2))


def _interaction(
    whole: Float64[np.ndarray, " 1"], block: Float64[np.ndarray, " blocks"], pair: Float64[np.ndarray, " pairs"]
) -> float:
    """The mean square of what two blocks do together beyond what each does alone.

    h_jk = [J (J - 1) t - (J - 1)(J - 2)(t_j + t_k) + (J - 2)(J - 3) t_jk] / 2 estimates the quadratic term of blocks j
    and k; what is left of h beyond its mean and the effects of j and k has J (J - 3) / 2 degrees of freedom.
    """
    count = len(block)
    j, k = np.array(list(combinations(range(count), 2))).T
    h = count * (count - 1) * whole - (count - 1) * (count - 2) * (block[j] + block[k])
    h = (h + (count - 2) * (count - 3) * pair) / 2
    sums = np.bincount(j, h, count) + np.bincount(k, h, count)
    effect = (sums - (count - 1) * h.mean()) / (count - 2)
    rest = h - h.mean() - effect[j] - effect[k]
    return float(np.sum(rest**2) / (count * (count - 3) / 2))
