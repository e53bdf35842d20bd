"""Encoders: `medi embed` against a bare loop over the same encoder, and published architectures at full size.

python benchmarks/encoders.py [--images 512] [--rounds 5] [--full kaiko-s16 dinov2-s] [--threads 1] [--quick]
    [--source AMI_BR/metadata.csv]

The encoder is timm's ViT-Ti/16 with random weights on patches of 256 px. Both sides do the same transform and the same
forward pass, batch by batch, in turns in one run; ours also reads the cohort, hashes it, writes the parts of the cache
and reads them back. The two encoders that come with MeDi are timed in turns on phantom patches of 32 and of 64 px, the
transform included. --source names a table of AMi-Br: how well are the class and the domain of a figure read from the
features of both, slides in folds? That is exploratory, as the layers were chosen on these patches. --full builds models
of the registry at their published size with random weights, saves these under their names, and loads them as
`medi embed` does. The last line is one JSON object.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import figure, report
from medi.cohort import phantom
from medi.cohort.pixels import Pixels, middle, resize
from medi.cohort.table import Cohort
from medi.evaluation.encoders import COLOUR_TEXTURE, Encoder, cached, encoder
from medi.evaluation.encoders.published import PUBLISHED

ARCHITECTURE, SIZE = "vit_tiny_patch16_224", 256
SHOWN = 64  # px around a figure of AMi-Br
SLOWEST = ">= 300"  # images/s of "imagenet" on one thread; 300 to 570 were measured with timm's network


def tiny(folder: Path) -> Encoder:
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    save_file(timm.create_model(ARCHITECTURE, num_classes=0).state_dict(), path)
    return encoder(f"timm:{ARCHITECTURE}:{path}")


def bare(images: np.ndarray, chosen: Encoder) -> None:
    starts = range(0, len(images), chosen.batch)
    found = [chosen.extract(chosen.prepare(images[start : start + chosen.batch])) for start in starts]
    assert len(np.concatenate(found)) == len(images)


def ours(cohort: Cohort, chosen: Encoder, cache: Path) -> None:
    assert len(cached(cohort, chosen, cache)) == len(cohort)


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock, and of this process's processor time, which others on the machine hardly change."""
    wall, own = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - own


def overhead(folder: Path, images: int, rounds: int) -> dict[str, Any]:
    """Our time over that of the bare loop, round by round; the first round warms up and does not count."""
    combinations = [(c, s) for c in phantom.CLASSES[:2] for s in phantom.SITES[:2]]
    tiles = phantom.fresh(combinations, images // 4, 0, "benchmark", size=64)
    patches = Pixels.of(np.tile(tiles.images[:], (1, SIZE // 64, SIZE // 64, 1)))
    Cohort(tiles.table, tiles.schema, patches).save(folder / "cohort")
    cohort, chosen = Cohort.load(folder / "cohort"), tiny(folder)
    pixels, both = cohort.images[:], []
    for i in range(rounds + 1):
        theirs = seconds(partial(bare, pixels, chosen))
        both.append((*theirs, *seconds(partial(ours, cohort, chosen, folder / f"cache{i}"))))
    times, n = np.array(both[1:]), len(cohort)
    against = f"loop over the same transform and forward pass, batch {chosen.batch}, {torch.get_num_threads()} threads"
    clock, own = times[:, 2] / times[:, 0] - 1, times[:, 3] / times[:, 1] - 1
    return {
        "overhead": figure(clock.tolist(), "", "<= 0.10", n, f"{against}; by the clock"),
        "overhead_processor": figure(own.tolist(), "", "<= 0.10", n, f"{against}; processor time of the process"),
        "images_per_second": figure((n / times[:, 2]).tolist(), "images/s", None, n, f"{ARCHITECTURE}, {SIZE} px"),
    }


def speeds(images: int, rounds: int) -> dict[str, Any]:
    """Images per processor second of the encoders that come with MeDi, in turns; the first round does not count."""
    found, encoders = dict[str, Any](), (COLOUR_TEXTURE, encoder("imagenet"))
    for size in (32, 64):
        patches = phantom.fresh(phantom.COMBINATIONS, images // len(phantom.COMBINATIONS) + 1, 0, "speed", size=size)
        pixels, both = patches.images[:][:images], []
        for _ in range(rounds + 1):
            both.append([seconds(partial(bare, pixels, chosen))[1] for chosen in encoders])
        rates = len(pixels) / np.array(both[1:])
        against = (
            f"patches of {size} px, transform included, {torch.get_num_threads()} threads; processor time, in turns"
        )
        for name, target, own in (("colour_texture", None, rates[:, 0]), ("imagenet", SLOWEST, rates[:, 1])):
            found[f"{name}_{size}_images_per_second"] = figure(own.tolist(), "images/s", target, len(pixels), against)
    return found


def probes(source: Path) -> dict[str, Any]:
    """Balanced accuracy of a logistic regression on other slides, fold by fold, of patches of 64 px and of 32 px."""
    table, found = pd.read_csv(source), dict[str, Any]()
    pictures = [np.asarray(Image.open(source.parent / file).convert("RGB")) for file in table["file"]]
    whole = np.stack([middle(picture[None], SHOWN)[0] for picture in pictures])
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=400, class_weight="balanced"))
    for chosen, size in product((COLOUR_TEXTURE, encoder("imagenet")), (SHOWN, SHOWN // 2)):
        images = resize(whole, size, Image.Resampling.BILINEAR)
        features = np.concatenate([chosen.encode(images[i : i + 512]) for i in range(0, len(images), 512)])
        for column in ("label", "domain"):
            said = cross_val_predict(head, features, table[column], groups=table["slide"], cv=GroupKFold(5))
            value = balanced_accuracy_score(table[column], said)
            name = f"amibr_{column}_{chosen.name.replace('-', '_')}_{size}"
            found[name] = figure(
                [value], "", None, len(table), f"balanced accuracy, 5 folds of slides, {size} px, C 0.01"
            )
    return found


def full_size(name: str, folder: Path) -> dict[str, Any]:
    """Seconds to load a published architecture of full size from its own file, and the numbers it gives."""
    model, path = PUBLISHED[name], folder / f"{name}.safetensors"
    assert model.keys == "timm", f"{name}: its published names are not timm's; the tests make them"
    arguments = dict(model.arguments)
    if "mlp_layer" in arguments:
        arguments["mlp_layer"] = getattr(timm.layers, arguments["mlp_layer"])
    state = timm.create_model(model.architecture, **arguments).state_dict()
    save_file(state, path)
    start = time.perf_counter()
    found = encoder(f"{name}:{path}")
    features = found.encode(np.full((1, 224, 224, 3), 200, np.uint8))
    took = time.perf_counter() - start
    assert features.shape == (1, model.dimension)
    millions = sum(value.numel() for value in state.values()) / 1e6
    return {f"load_{name}": figure([took], "s", None, 1, f"{millions:.1f} M parameters, random, hash and one patch")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full", nargs="*", default=[], help="names of the registry to load at full size")
    parser.add_argument("--source", type=Path, help="metadata.csv of AMi-Br")
    parser.add_argument("--quick", action="store_true", help="16 images, one round")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images, rounds = (16, 1) if options.quick else (options.images, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        found = overhead(Path(folder), images, rounds) | speeds(4 * images, rounds)
        found |= probes(options.source) if options.source else {}
        for name in options.full:
            found |= full_size(name, Path(folder))
    report("encoders", found, ("torch", "timm", "pillow", "numpy"))


if __name__ == "__main__":
    main()
