"""Two pre-registered contrasts: MeDi against the best remedy that needs no generator, over fresh phantom worlds.

python benchmarks/worlds.py [--contrast second] [--seeds 1000 1001 ...] [--out runs/worlds] [--quick]

The first one. Fixed before any of its worlds was drawn (seed 900 served to try the code, and stands in no figure):

- Worlds: seeds 1000 to 1007. Each redraws 4 tissues, 8 stains with their scanners and all counts from
  `medi.cohort.phantom.families`: 3,000 patches of 32 px, of which a site shows 70 to 97 % of one class. A fifth of the
  combinations is held out, beside those that are empty.
- MeDi: the network and recipe that `laptop32` had then, on 25,000 training images, a quarter of that preset's; every
  combination is filled to 100 patches, 12 steps. Features: colour-texture. Head: the one that MeDi's own inner hold-out
  chooses.
- Rival: the remedy at the top of the list of `medi recommend`, of real and Macenko-normalised patches under every head.
  It is chosen on training patches alone.
- Endpoint: mean recall over all 32 combinations alike, on fresh slides, 60 patches a combination.
- Hypothesis: MeDi minus rival differs from 0. The figure is its mean over worlds with a t interval over worlds.

Secondary, without a claim: MeDi minus real patches, each under its chosen head; MeDi, gap corrected, minus the rival;
MeDi minus what `medi recommend` says where it may also say that nothing is worth it; and the regret, against the best
of all sets under all heads, of these, of always MeDi, always Macenko and always real patches (both under the logistic
head). All 8 worlds count; should fewer be finished, they are the first ones.

The second one, with what MeDi is since December 2026. Fixed before any of its worlds was drawn (seed 900 served to try
the code, and stands in no figure):

- Worlds: seeds 1100 to 1107, drawn as those of the first one.
- MeDi: the network and recipe of `laptop32`, with all of its 60,000 images, and sampling and guidance of `medi demo`.
- Set: real patches and the images whose class CRM agrees with, all after Macenko normalisation. Head: as above.
- Rival, endpoint and hypothesis: as above.

Secondary, without a claim: the same as above for this set and for MeDi alone, and in both encoders how often the images
of unseen combinations show their class, of all and of the worst class, beside real patches; a probe of crossed real
patches tells it. The least of MeDi minus real patches says whether it hurt anywhere.

A finished world is a line of OUT/worlds.jsonl, and the same command goes on with the next. The last line is one JSON
object.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import medi
from common import figure, report
from medi.api.given import embedded
from medi.cohort.phantom import families
from medi.cohort.phantom.factors import FIELD
from medi.cohort.pixels import Pixels
from medi.cohort.rule import Rule
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort, concatenate
from medi.core.choice import VOTE
from medi.core.progress import Silent
from medi.core.seeds import generator
from medi.core.set_names import parts_of
from medi.core.shares import apportion
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Material, arms_of, filtered
from medi.evaluation.classify.crossed import crossed, sets_of
from medi.evaluation.classify.crossed_scores import CHOSEN
from medi.evaluation.classify.heads import HEADS
from medi.evaluation.classify.scoring import EVERY, MEDI, REAL
from medi.evaluation.classify.stained import stain_arms
from medi.evaluation.control import control
from medi.evaluation.encoders import encoder
from medi.evaluation.recommend import Judged
from medi.evaluation.statistics import t_interval
from medi.study.settings import embedded_study
from medi.training.presets import Preset, preset

TISSUES, SITES = 4, 8
EVERY_PAIR = [(tissue, site) for tissue in range(TISSUES) for site in range(SITES)]
OVER = ("class", "site")
MAIN = (0.70, 0.97)  # share of a site's most frequent class
STEPS = 12
MACENKO, LOGISTIC = "macenko", "logistic"
FILTERED = "medi_filtered_macenko"
ENCODERS = ("colour-texture", "imagenet")


@dataclass(frozen=True)
class Contrast:
    """What was fixed: the worlds, the training images, whether a classifier guides, and the training set."""

    seeds: tuple[int, ...]
    images: int
    guided: bool
    set: str


CONTRASTS = {
    "first": Contrast(tuple(range(1000, 1008)), 25_000, False, MEDI),
    "second": Contrast(tuple(range(1100, 1108)), 60_000, True, FILTERED),
}


@dataclass(frozen=True)
class Size:
    """Of a world: patches to train on, images and real patches of each combination together, test patches of each."""

    patches: int = 3_000
    filled: int = 100
    tested: int = 60
    heads: tuple[str, ...] = tuple(HEADS)


QUICK = Size(160, 8, 4, ("logistic",))


def counts(seed: int, patches: int) -> dict[tuple[int, int], int]:
    """Patches of every tissue at every site: each tissue is the most frequent one of two sites."""
    rng = generator("worlds", "counts", seed)
    sizes, main = np.exp(0.4 * rng.standard_normal(SITES)), rng.permutation(np.arange(SITES) % TISSUES)
    weights = {}
    for site, most in enumerate(main):
        share = rng.uniform(*MAIN)
        rest = iter((1 - share) * rng.dirichlet(np.full(TISSUES - 1, 0.7)))
        weights |= {(t, site): sizes[site] * (share if t == most else next(rest)) for t in range(TISSUES)}
    shares = np.array(list(weights.values())) / sum(weights.values())
    return dict(zip(weights, apportion(shares, np.array([patches]))[0].tolist()))


def drawn(seed: int, stream: str, wanted: dict[tuple[int, int], int]) -> Cohort:
    """Patches of combinations: slides of 8 to 25 patches, and patients of one to three slides of one combination."""
    rows, images = [], []
    for (tissue, site), count in wanted.items():
        rng = generator("worlds", "slides", seed, stream, tissue, site)
        names: list[tuple[str, str]] = []
        patient = slide = left = 0
        while len(names) < count:
            patient, left = (patient + 1, int(rng.integers(1, 4))) if left == 0 else (patient, left)
            slide, left = slide + 1, left - 1
            owner = f"world{seed}-{stream}-{tissue}-{site}-p{patient}"
            names += [(owner, f"{owner}-s{slide}")] * int(rng.integers(8, 26))
        for number, (owner, name) in enumerate(names[:count]):
            sample = f"{name}-{number}"
            images.append(families.patch(seed, tissue, site, name, sample, 32))
            rows.append({"sample_id": sample, "class": f"t{tissue}", "site": f"s{site}"})
            rows[-1] |= {"patient": owner, "slide": name, "noise_id": sample}
    table = pd.DataFrame(rows).assign(image="", mpp=str(FIELD / 32), split="", origin="real")
    levels = [tuple(f"{letter}{i}" for i in range(n)) for letter, n in (("t", TISSUES), ("s", SITES))]
    schema = Schema(Attribute("class", levels=levels[0]), (Attribute("site", levels=levels[1]),))
    return Cohort(table, schema, Pixels.of(np.stack(images)), {"source": "families", "seed": seed})


def fresh(seed: int, stream: str, which: Sequence[tuple[int, int]], each: int) -> Cohort:
    """As many patches of each combination."""
    return drawn(seed, stream, dict.fromkeys(which, each))


def numbers(pairs: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    return [(int(class_[1:]), int(site[1:])) for class_, site in pairs]


def made_by_medi(seed: int, cohort: Cohort, chosen: Preset, to: int, out: Path, classifier: dict[str, int]) -> Cohort:
    """Train MeDi and fill every combination; `classifier`: settings of the one that guides, none without one."""
    model = medi.train(cohort, chosen, out / "model", seed=seed)
    plan = cohort.plan(to=to, over=OVER).expand(seed)
    if not classifier:
        return model.sample(plan, out / "samples", seed=seed, workers=1, steps=STEPS)
    guide = medi.train_classifier(cohort, out / "classifier", seed=seed, **classifier)
    demo = embedded_study().sampling
    settings: dict[str, Any] = {"solver": demo.solver, "steps": demo.steps, "guidance": asdict(demo.guidance)}
    return model.sample(plan, out / "samples", seed=seed, workers=1, classifier=guide, **settings)


def shown_as_asked(sets: dict[str, Cohort], crossed_ones: Cohort, held: frozenset[Any], out: Path) -> dict[str, float]:
    """By encoder: the share of images, and of real patches, of unseen combinations that show their class; the same of
    the class of which the images show the least of what real patches do."""
    found = {}
    tests = concatenate([sets["unseen"], sets["seen"]])
    for name in ENCODERS:
        rows = embedded(
            {"crossed": crossed_ones, REAL: tests, MEDI: sets[MEDI]}, encoder(name), out / "cache", Silent()
        )
        given: dict[str, Any] = {"over": OVER, "seed": 0, "encoder": name, "held_out": held}
        table = control(None, rows[REAL], {MEDI: rows[MEDI]}, crossed=rows["crossed"], **given).figures
        table = table[
            (table["metric"] == "as_asked") & (table["scope"] == "combination") & (table["split"] == "unseen")
        ]
        means = table[table["attribute"] == "class"].groupby(["arm", "class"])["value"].mean().unstack()
        worst = (means.loc[MEDI] / means.loc[REAL]).idxmin()
        for arm in (MEDI, REAL):
            found |= {f"{name}_class_{arm}": means.loc[arm].mean(), f"{name}_worst_class_{arm}": means.loc[arm, worst]}
    return {key: round(float(value), 5) for key, value in found.items()}


@one_thread
def world(
    seed: int, contrast: Contrast, chosen: Preset, size: Size, out: Path, classifier: dict[str, int]
) -> dict[str, Any]:
    """Everything of one world, as the line that is kept."""
    began, clock = time.process_time(), time.time()
    rule = Rule(over=OVER, rate=0.2, test_seen=0, validation=0, reserve=0)
    cohort = drawn(seed, "train", counts(seed, size.patches)).hold_out(rule=rule, seed=seed)
    train = cohort.where(split="train")
    seen = sorted(set(numbers(train.table[list(OVER)].to_numpy().tolist())))
    unseen = sorted(set(EVERY_PAIR) - set(seen))
    tests = {"unseen": fresh(seed, "test", unseen, size.tested), "seen": fresh(seed, "test", seen, size.tested)}
    table = medi.recommend(cohort, over=OVER, heads=size.heads, cache=out / "cache", seed=seed).judged.table
    found = Judged(table[table["head"] != VOTE])  # the rule that was fixed knows no vote
    extractor = encoder("colour-texture")
    sets = {REAL: train, MEDI: made_by_medi(seed, cohort, chosen, size.filled, out, classifier), **tests}
    rows = embedded(sets, extractor, out / "cache", Silent())
    material = Material(rows[REAL], {MEDI: rows[MEDI]}, {name: rows[name] for name in tests}, OVER, seed)
    more = {MEDI: sets[MEDI]} if contrast.guided else {}
    arms = arms_of(material, ["none"]) + stain_arms(train, rows[REAL], tests, extractor, seed, [MACENKO], more=more)
    arms += [filtered(arm, len(train), OVER, seed) for arm in arms if parts_of(arm.name)[0] == MEDI and more]
    asked: dict[str, Any] = {"over": OVER, "seed": seed, "seeds": (seed,), "reference": MEDI}
    table = crossed(sets_of(arms, material), material.tests, size.heads, **asked)
    kept = table[(table["metric"] == "mean_recall") & table["value"].notna()]
    line: dict[str, Any] = {"seed": seed, "images": chosen.recipe.images, "heads": list(size.heads)}
    line |= {"train": len(train), "unseen": len(unseen), "synthetic": len(sets[MEDI])}
    for name, row in (("best", found.best), ("choice", found.chosen)):
        line[name] = None if row is None else [row["set"], row["head"]]
    line["recall"] = {f"{r.arm}, {r.head}, {r.split}": round(r.value, 5) for r in kept.itertuples()}
    picked = kept[(kept["head"] == CHOSEN) & (kept["split"] == EVERY)]
    line["by"] = dict(zip(picked["arm"], picked["reason"]))
    if contrast.guided:
        held = frozenset((f"t{t}", f"s{s}") for t, s in unseen)
        line["shown"] = shown_as_asked(sets, fresh(seed, "crossed", EVERY_PAIR, size.tested), held, out)
    return line | {"cpu_minutes": (time.process_time() - began) / 60, "minutes": (time.time() - clock) / 60}


def values_of(line: dict[str, Any], set_: str) -> dict[str, float]:
    """The contrasts and regrets of one world, of this training set first."""
    recall = {tuple(key.split(", ")): value for key, value in line["recall"].items()}
    whole = {key[:2]: value for key, value in recall.items() if key[2] == EVERY}
    best, choice = whole[tuple(line["best"])], whole[tuple(line["choice"])]
    found = {}
    for name in dict.fromkeys((set_, MEDI)):
        mine = whole[name, CHOSEN]
        found |= {f"{name}_less_rival": mine - best, f"{name}_less_choice": mine - choice}
        found[f"{name}_less_real_chosen"] = mine - whole[REAL, CHOSEN]
        found[f"{name}_less_real_logistic"] = whole[name, LOGISTIC] - whole[REAL, LOGISTIC]
        found[f"{name}_gap_less_rival"] = whole[f"{name}_gap", CHOSEN] - best
        for split in ("unseen", "seen"):
            found[f"{name}_less_rival_{split}"] = recall[name, CHOSEN, split] - recall[(*line["best"], split)]
        found |= {f"recall_{name}": mine, f"regret_{name}": max(whole.values()) - mine}
    found |= {"recall_rival": best, f"{MACENKO}_less_rival": whole[MACENKO, CHOSEN] - best}
    found[f"{set_}_less_{MACENKO}"] = whole[set_, CHOSEN] - whole[MACENKO, CHOSEN]
    if set_ != MEDI:
        found[f"{set_}_less_{MEDI}"] = whole[set_, CHOSEN] - whole[MEDI, CHOSEN]
    always = {"rival": best, "choice": choice, MACENKO: whole[MACENKO, LOGISTIC], REAL: whole[REAL, LOGISTIC]}
    found |= {f"regret_{name}": max(whole.values()) - value for name, value in always.items()}
    shown = line.get("shown", {})
    for key in (key for key in shown if key.endswith(f"_{MEDI}")):
        found[f"{key}_of_real"] = shown[key] / shown[key.removesuffix(MEDI) + REAL]
    return found | shown


def figures(lines: list[dict[str, Any]], set_: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Means over worlds with t intervals, and the worlds' own figures."""
    table = pd.DataFrame([values_of(line, set_) for line in lines])
    for name in table:
        values = table[name].to_numpy(dtype=np.float64)
        n, mean = len(values), float(values.mean())
        found = t_interval(mean, float(values.var(ddof=1) / n) if n > 1 else np.nan, n - 1)
        worlds = ", ".join(f"{value:.4f}" for value in values)
        shown = figure(values.tolist(), "", None, n, f"range: t interval over worlds; worlds: {worlds}")
        yield str(name), shown | ({"spread": [round(found.low, 4), round(found.high, 4)]} if n > 1 else {})
    yield "cpu_minutes", figure([line["cpu_minutes"] for line in lines], "min", None, len(lines), "a world, one core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contrast", choices=list(CONTRASTS), default="first")
    parser.add_argument("--seeds", type=int, nargs="+", help="all of the contrast's by default")
    parser.add_argument("--out", type=Path, default=Path("runs/worlds"))
    parser.add_argument("--quick", action="store_true", help="a tiny model in one small world of another seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    contrast, chosen, size, classifier = CONTRASTS[options.contrast], preset("laptop32"), Size(), {}
    chosen = replace(chosen, recipe=replace(chosen.recipe, images=contrast.images))
    seeds = options.seeds or contrast.seeds
    if contrast.guided:
        classifier = {"images": embedded_study().classifier.images}
    if options.quick:
        chosen, size, seeds = preset("tiny"), QUICK, [900]
        classifier = {"images": 128} if contrast.guided else {}
    kept = options.out / "worlds.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for seed in (seed for seed in seeds if seed not in {line["seed"] for line in done}):
        done.append(world(seed, contrast, chosen, size, options.out / f"{seed}", classifier))
        with kept.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        found = values_of(done[-1], contrast.set)
        print({name: round(value, 3) for name, value in found.items()}, flush=True)
    lines = [line for line in done if line["seed"] in seeds]
    report("worlds", dict(figures(lines, contrast.set)), ["torch", "scikit-learn"])


if __name__ == "__main__":
    main()
