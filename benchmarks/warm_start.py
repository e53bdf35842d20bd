"""What first weights are worth: MeDi models of one phantom cohort, alike in all but how they begin and how they learn.

python benchmarks/warm_start.py --arm NAME=JSON [--arm ...] [--seeds 10] [--out runs/warm-start] [--n 100] [--quick]

An arm is JSON of settings of network, recipe, sampling and guidance: {"attention": [1, 2], "images": 50000, "init":
"FILE", "classifier": 4, "interval": [0.1, 3]}. What it leaves out is the demo's. Per seed: the demo's cohort and
hold-out, n images of each of the 32 combinations for every arm. Arms that are trained alike share a model, and all
share the classifier, where it guides. A probe of crossed real patches (n of each combination, none missing) tells class
and site of the images; other real patches say what it can reach. Per encoder: the share shown as asked, on unseen and
on seen combinations, of all and of the worst class; the mean Frechet distance per combination and that of its floor,
recall minus the floor's, and a detector's AUROC.
Models stay in --out. The last line is one JSON object; spreads are over seeds.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from common import figure, report
from medi.cohort import phantom
from medi.cohort.holdout import design
from medi.cohort.table import Cohort
from medi.core.files import content_hash
from medi.core.seeds import generator
from medi.evaluation.control import control
from medi.evaluation.encoders import embed, encoder
from medi.evaluation.features import FLOOR, Embedded
from medi.evaluation.fidelity.compare import distances
from medi.models.network import NetworkSettings
from medi.sampling.generate import generate
from medi.study.preparing import rule_of
from medi.study.settings import StudySettings, embedded_study
from medi.training.classifier import train_classifier
from medi.training.loop import train

ENCODERS = ("colour-texture", "imagenet")
OVER = ("class", "site")
SAMPLING = ("solver", "steps", "eta", "sigma_min", "sigma_max")  # settings of an arm that change no model
OTHERS = {"frechet": "distance", "recall_difference": "recall_less_floor", "detectability": "auroc"}
Pairs = Sequence[tuple[str, str]]
EVERY: Pairs = [(class_, site) for site in phantom.SITES for class_ in phantom.CLASSES]
QUICK: Pairs = EVERY[: 2 * len(phantom.CLASSES)]


def arm_of(text: str) -> tuple[str, Mapping[str, Any]]:
    name, _, settings = text.partition("=")
    return name, json.loads(settings or "{}")


def changed(study: StudySettings, wanted: Mapping[str, Any]) -> StudySettings:
    """The study with these settings of network, recipe and sampling."""
    of_network = {field.name for field in fields(NetworkSettings)}
    homes = dict.fromkeys(of_network, "network") | dict.fromkeys(SAMPLING, "sampling")
    homes |= dict.fromkeys(("classifier", "candidates", "interval", "autoguidance"), "guidance")
    parts: dict[str, dict[str, Any]] = {"network": {}, "training": {}, "sampling": {}, "guidance": {}}
    for key, value in wanted.items():
        parts[homes.get(key, "training")][key] = tuple(value) if isinstance(value, list) else value
    recipe = study.training.changed(**parts["training"])
    guidance = replace(study.sampling.guidance, **parts["guidance"])
    sampling = replace(study.sampling, guidance=guidance, **parts["sampling"])
    network = replace(study.network, **parts["network"])
    return study.model_copy(update={"network": network, "training": recipe, "sampling": sampling})


def cohort_of(study: StudySettings, seed: int) -> tuple[Cohort, frozenset[tuple[str, ...]]]:
    """The demo's cohort with its hold-out, and what that holds out."""
    cohort = phantom.cohort(seed, study.cohort.size, study.cohort.patches)
    found = design(cohort.table, cohort.schema, rule_of(study), seed)
    return replace(cohort, table=found.apply(cohort.table)), frozenset(found.held_out)


def plan(pairs: Pairs, n: int, seed: int) -> pd.DataFrame:
    """n rows of each combination, the demographic group by chance."""
    names = [(class_, site, f"{class_} {site} {i}") for class_, site in pairs for i in range(n)]
    table = pd.DataFrame(names, columns=["class", "site", "sample_id"])
    groups = generator("warm start", seed).choice(phantom.GROUPS, len(table))
    return table.assign(noise_id=table["sample_id"], group=groups)


def timed(folder: Path, work: Callable[[Path], Path]) -> tuple[Path, float]:
    """What is trained in a folder, and the processor seconds of it, also where it was trained by an earlier call."""
    keeper, began = folder / "seconds.json", time.process_time()
    model = work(folder / "model")
    if not keeper.exists():
        keeper.write_text(json.dumps(time.process_time() - began), encoding="utf-8")
    return model, json.loads(keeper.read_text(encoding="utf-8"))


def images_of(
    arm: str, study: StudySettings, cohort: Cohort, seed: int, pairs: Pairs, n: int, out: Path
) -> tuple[Cohort, float]:
    """The images of one arm, and the processor seconds of its training, that of the classifier included."""
    patches, guide, judging = cohort.where(split="train"), None, 0.0
    home = out / f"model-{content_hash(study.network, study.training)}-{seed}"
    model, seconds = timed(home, lambda f: train(patches, f, study.network, study.training, cohort.schema, seed))
    if study.sampling.guidance.needs_classifier:
        home = out / f"classifier-{content_hash(study.classifier)}-{seed}"
        guide, judging = timed(home, lambda f: train_classifier(patches, f, study.classifier, seed))
    made = generate(model, plan(pairs, n, seed), out / f"{arm}-{seed}", seed, study.sampling, classifier=guide)
    assert made is not None, "this process alone samples all batches"
    return made, seconds + judging


def measured(
    arms: Mapping[str, Cohort], seed: int, pairs: Pairs, n: int, cohort: Cohort, held: frozenset[tuple[str, ...]]
) -> pd.DataFrame:
    """A row per encoder, arm, combination and figure: shown as asked (class, site), distance, its floor, recall less
    the floor's; and the AUROC of a detector."""
    sets = {name: phantom.fresh(pairs, n, seed, name) for name in ("crossed", "reference", "floor")} | dict(arms)
    tables = []
    for name in ENCODERS:
        extractor = encoder(name)
        rows = {key: Embedded(embed(patches, extractor), patches.table) for key, patches in sets.items()}
        real, floor, crossed = rows["reference"], rows["floor"], rows["crossed"]
        given: dict[str, Any] = {"over": OVER, "seed": seed, "encoder": name, "held_out": held}
        made = {key: rows[key] for key in arms}
        shown = control(None, real, made, crossed=crossed, **given).figures
        training = cohort.where(split="train").table
        far = distances(real, floor, made, training=training, n=n, **given)
        both = pd.concat([shown, far])
        wanted = both["metric"].isin(["as_asked", "frechet", "recall_difference"]) & (both["scope"] == "combination")
        wanted |= (both["metric"] == "detectability") & both["split"].isin(["seen", "unseen"])
        tables.append(both[wanted].assign(seed=seed))
    return pd.concat(tables, ignore_index=True)


def figures(table: pd.DataFrame, n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Per encoder, arm and kind of combination, over seeds."""
    shown = table[table["metric"] == "as_asked"]
    for (encoder_, asked, arm, split), part in shown.groupby(["encoder", "attribute", "arm", "split"]):
        seeds = part.groupby("seed")["value"].mean().tolist()
        yield f"{encoder_}_{asked}_{split}_{arm}", figure(seeds, "", None, len(seeds), f"as asked, {n} a combination")
        if asked == "class":
            worst = part.groupby(["seed", "class"])["value"].mean().groupby("seed").min().tolist()
            yield f"{encoder_}_worst_class_{split}_{arm}", figure(worst, "", None, len(worst), "the worst class")
    to_arms = (table["metric"] == "recall_difference") & (table["against"] != FLOOR)
    others = table[(table["metric"] != "as_asked") & ~to_arms].dropna(subset="value")  # too few images have no distance
    for (encoder_, metric, arm, split), part in others.groupby(["encoder", "metric", "arm", "split"]):
        seeds = part.groupby("seed")["value"].mean().tolist()
        name = f"{encoder_}_{OTHERS[metric]}_{split}_{arm}"
        yield name, figure(seeds, "", None, len(seeds), "mean over combinations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", type=arm_of, action="append", default=[], help="NAME=JSON")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10])
    parser.add_argument("--out", type=Path, default=Path("runs/warm-start"))
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few patches, images and updates")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.n, pairs = (4, QUICK) if options.quick else (options.n, EVERY)
    base, tables, seconds = embedded_study(options.quick), [], dict[str, list[float]]()
    if options.quick:
        base = changed(base, {"images": 256, "save_every": 256, "warmup": 16})
    for seed in options.seeds:
        cohort, held = cohort_of(base, seed)
        made = {}
        for name, wanted in options.arm or [("demo", {})]:
            made[name], took = images_of(name, changed(base, wanted), cohort, seed, pairs, options.n, options.out)
            seconds.setdefault(name, []).append(took)
            print(f"seed {seed}, {name}: trained in {took:,.0f} processor seconds", flush=True)
        tables.append(measured(made, seed, pairs, options.n, cohort, held))
        pd.concat(tables).to_csv(options.out / "figures.csv", index=False)
    found = dict(figures(pd.concat(tables), options.n))
    for name, took in seconds.items():
        found[f"seconds_{name}"] = figure(took, "processor s", None, len(took), "training")
    report("warm_start", found, ["torch", "diffusers"])


if __name__ == "__main__":
    main()
