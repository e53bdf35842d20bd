"""How often the interval of FD(R, A) - FD(R, B) holds what it says, and how often it sees a difference.

python benchmarks/intervals.py [--repeats 500] [--quick]

Each repeat draws 100 real rows from 10 or 20 slides (three tenths of the variance lies between slides) and 100 rows
each of A and B, of 67 or 512 numbers. B is off by 0, 0.2 or 0.3 standard deviations in every number. The truth is the
mean difference over all repeats: what sets of this size show on average. Per case: the share of intervals that hold it
(95 % is nominal), and the share without 0 (`power`). `means`: the interval of the mean over 12 combinations with slides
of their own, from repeats taken 12 at a time. `shared`: of the mean over 3 combinations whose patches come from the
same 15 slides. Spreads are 95 % intervals of a share (Wilson). The last line is one JSON object.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from common import figure, report
from medi.core.seeds import generator
from medi.core.threads import one_thread
from medi.evaluation.fidelity.paired import Leaving, LeftOut, Stratum, frechet_difference

N, BETWEEN, TOGETHER = 100, 0.3, 12
CASES = [(d, slides, shift) for d in (67, 512) for slides in (10, 20) for shift in (0.0, 0.2, 0.3)]
Repeat = tuple[float, list[Stratum]]  # the difference, and what its interval comes from


def comparisons(d: int, slides: int, shift: float, combinations: int, key: tuple[object, ...]) -> Repeat:
    """The mean difference over combinations whose patches come from the same slides."""
    rng = generator("coverage", *map(str, key))
    names = [f"s{i % slides:02d}" for i in range(N)]
    slide = rng.standard_normal((slides, d)) * np.sqrt(BETWEEN)
    leaving = Leaving.of(names, np.zeros(N, dtype=np.int64), dict.fromkeys(sorted(set(names)), "one"), ("coverage",))
    arms: tuple[list[LeftOut], list[LeftOut]] = ([], [])
    for _ in range(combinations):
        real = slide[np.arange(N) % slides] + rng.standard_normal((N, d)) * np.sqrt(1 - BETWEEN)
        for arm, off in zip(arms, (0.0, shift)):
            arm.append(LeftOut.of(real, rng.standard_normal((N, d)) + off, leaving))
    first, second = (LeftOut.mean(arm) for arm in arms)
    return float(first.whole[0] - second.whole[0]), [(1.0, first, second)]


def mean_of(repeats: Sequence[Repeat]) -> Repeat:
    """Of combinations with slides of their own."""
    share = 1 / len(repeats)
    strata = [(share, first, second) for _, ((_, first, second),) in repeats]
    return float(np.mean([value for value, _ in repeats])), strata


def scored(name: str, repeats: Sequence[Repeat], truth: float, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """How many intervals hold the truth, and how many do not hold 0."""
    found = [frechet_difference(value, strata, 1) for value, strata in repeats]
    shares = {
        "cover": [estimate.low <= truth <= estimate.high for estimate in found],
        "power": [not estimate.low <= 0 <= estimate.high for estimate in found],
    }
    for kind, hits in shares.items():
        target = "91 to 99.5 %" if kind == "cover" else None
        entry = figure([float(np.mean(hits))], "", target, len(hits), place)
        low, high = binomtest(int(sum(hits)), len(hits)).proportion_ci(method="wilson")
        yield f"{kind}_{name}", entry | {"spread": [round(float(low), 4), round(float(high), 4)]}


@one_thread
def figures(repeats: int, quick: bool) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for d, slides, shift in CASES[:2] if quick else CASES:
        place = f"{d} numbers, {slides} slides, shift {shift:g} sd"
        drawn = [comparisons(d, slides, shift, 1, (d, slides, shift, i)) for i in range(repeats)]
        truth = float(np.mean([value for value, _ in drawn]))
        name = f"{d}_{slides}_{shift:g}"
        found |= scored(name, drawn, truth, place)
        means = [mean_of(drawn[i : i + TOGETHER]) for i in range(0, len(drawn) - TOGETHER + 1, TOGETHER)]
        if means:
            found |= scored(f"means_{name}", means, truth, f"{place}, mean of {TOGETHER}")
        print(f"{place}: covers {found[f'cover_{name}']['value']}, power {found[f'power_{name}']['value']}", flush=True)
    for shift in (0.0,) if quick else (0.0, 0.3):
        drawn = [comparisons(67, 15, shift, 3, ("shared", shift, i)) for i in range(max(repeats // 2, 2))]
        truth = float(np.mean([value for value, _ in drawn]))
        found |= scored(f"shared_{shift:g}", drawn, truth, f"67 numbers, 3 combinations of 15 slides, shift {shift:g}")
    single = [entry["value"] for key, entry in found.items() if key.startswith("cover_") and key[6].isdigit()]
    found["cover_mean_of_cases"] = figure(single, "", "94 to 97 %", len(single), "one combination")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="few repeats of two cases")
    options = parser.parse_args()
    report("intervals", figures(3 if options.quick else options.repeats, options.quick), ["numpy", "scipy"])


if __name__ == "__main__":
    main()
