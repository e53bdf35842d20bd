"""Style transfer between the sites of the phantom: how fast it trains, how near the truth it comes, what it is worth.

python benchmarks/style.py [--seeds 10] [--images 30000] [--out runs/style] [--quick]

An image-to-image translator is trained on the training patches of a hold-out of a third of the combinations. Fresh
patches are shown at all other sites and compared with the clean render of their tissue there, beside stain
normalisation to patches of the site and a noisy render. Then training patches fill every combination to 100, and the
training set `style` stands beside real patches, Macenko normalisation and the oracle under each head; each less real
patches and less Macenko. Spreads are ranges over seeds, or 95 % intervals over patients where there is one seed. A grid
of pictures lies in --out. Times are CPU seconds of one thread. The last line is one JSON object.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common import figure, report
from heads import compared, drawn
from medi.api.given import embedded
from medi.cohort import phantom
from medi.cohort.certificate import ASIDE
from medi.cohort.table import Cohort
from medi.core.progress import Silent
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Material
from medi.evaluation.classify.stained import stain_arms
from medi.evaluation.encoders import encoder
from medi.evaluation.splits import tested_parts
from medi.report.heads import by_head
from medi.sampling.style import style_transfer
from medi.sampling.transfer import at_levels, filling
from medi.sampling.translated import write_sheet
from medi.training.style import StyleSettings, train_style
from transfer import normalised, psnr
from utility import OVER

NORMALISED = ("macenko", "macenko_pooled", "reinhard_pooled")
REFERENCES = 96  # patches of a site that stain normalisation learns it from


@dataclass(frozen=True)
class Size:
    """images: of the training; patches: of the cohort; tested, shown: of a combination; to: what each is filled to;
    sites: at which patches are shown."""

    images: int
    patches: int = 4_000
    tested: int = 40
    shown: int = 2
    to: int = 100
    sites: tuple[str, ...] = phantom.SITES
    heads: tuple[str, ...] = ("logistic", "crm", "adversary")


def trained(train: Cohort, images: int, out: Path) -> tuple[Path, float]:
    """The model, and real patches per CPU second of its training."""
    start = time.process_time()
    model = train_style(train, "site", out / "model", StyleSettings(images=images), seed=0)
    return model, images / (time.process_time() - start)


def truth(model: Path, train: Cohort, seed: int, size: Size, out: Path) -> dict[str, float]:
    """PSNR to the clean render at the target site, of everything that claims to show a patch there."""
    source = phantom.fresh(list(phantom.COMBINATIONS), size.shown, seed, "style")
    rows = at_levels(source, train.schema, "site", size.sites)
    made = style_transfer(model, source, rows, out / "shown")
    write_sheet(source.select(np.arange(0, len(source), len(source) // 12)), made, "site", size.sites, out / "grid.png")
    places = pd.Index(source.table["sample_id"]).get_indexer(rows["source"])
    looks = {site: train.where(site=site).images[:REFERENCES] for site in phantom.SITES}
    found: dict[str, list[np.ndarray]] = {}
    for (home, site), part in rows.groupby(["translated_from", "site"]):
        at, images = places[part.index], source.images[:][places[part.index]]
        clean, noisy = (
            phantom.twins(source.select(at), str(site), clean=is_clean)[0].images[:] for is_clean in (True, False)
        )
        shown = {"style": made.images[part.index.to_numpy()], "untouched": images, "noisy_render": noisy}
        shown |= {name: normalised(name, images, looks[str(home)], looks[str(site)]) for name in NORMALISED}
        for name, pictures in shown.items():
            found.setdefault(name, []).append(psnr(pictures, clean))
    return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


def worth(model: Path, cohort: Cohort, size: Size, out: Path) -> pd.DataFrame:
    """The table of sets by heads, all combinations filled with training patches in another style."""
    train, tests = cohort.where(split="train"), tested_parts(cohort, OVER)
    counts = train.table.groupby(list(OVER)).size()
    lacks = [pair for pair in phantom.COMBINATIONS for _ in range(max(0, size.to - counts.get(pair, 0)))]
    plan = filling(train, train.schema, "site", pd.DataFrame(lacks, columns=list(OVER)), seed=0)
    made, extractor = style_transfer(model, train, plan, out / "style"), encoder("colour-texture")
    given = {"real": train, "aside": cohort.where(split=ASIDE), "style": made, **tests}
    rows = embedded(given, extractor, out / "cache", Silent())
    tested = {name: rows[name] for name in tests}
    material = Material(rows["real"], {"style": rows["style"]}, tested, OVER, oracle=rows["aside"], reference="style")
    return compared(material, size.heads, stain_arms(train, rows["real"], tests, extractor, 0, ["macenko"]))


@one_thread
def of_seed(seed: int, size: Size, out: Path) -> tuple[dict[str, float], pd.DataFrame]:
    """The plain figures of a seed, and its table of sets by heads."""
    cohort = drawn(seed, size.patches, size.tested)
    train = cohort.where(split="train")
    model, speed = trained(train, size.images, out)
    near = truth(model, train, seed, size, out)
    table = worth(model, cohort, size, out)
    print(f"seed {seed}: {len(train)} patches train\n{by_head(table).round(3).to_string()}", flush=True)
    return {"images_per_cpu_second": speed} | {f"psnr_{name}": value for name, value in near.items()}, table


def figures(found: list[tuple[dict[str, float], pd.DataFrame]]) -> dict[str, dict[str, Any]]:
    """Means over seeds; of one seed with its intervals."""
    plain = {name: [values[name] for values, _ in found] for name in found[0][0]}
    made = {
        name: figure(values, "dB" if "psnr" in name else "", None, len(values), "") for name, values in plain.items()
    }
    whole = pd.concat(table[table["split"] == "all"] for _, table in found)
    kept = whole[whole["metric"].isin(["mean_recall", "mean_recall_difference"]) & whole["value"].notna()]
    for (arm, against, head), rows in kept.groupby(["arm", "against", "head"]):
        name = "_less_".join(filter(None, [str(arm), str(against)]))
        made[f"{name}_{head}"] = figure(list(rows["value"]), "", None, len(rows), "mean recall over combinations")
        if len(rows) == 1:
            made[f"{name}_{head}"]["spread"] = rows[["low", "high"]].iloc[0].round(4).tolist()
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10])
    parser.add_argument("--images", type=int, default=StyleSettings().images)
    parser.add_argument("--out", type=Path, default=Path("runs/style"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    size = Size(16, 200, 2, 1, 3, phantom.SITES[:1], ("logistic",)) if asked.quick else Size(asked.images)
    found = [of_seed(seed, size, asked.out / f"seed{seed}") for seed in asked.seeds]
    report("style", figures(found), ["numpy", "torch", "scikit-learn"])


if __name__ == "__main__":
    main()
