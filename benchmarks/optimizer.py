"""AdamW against Muon: the loss on validation patches after as many images, or after as much time.

OMP_NUM_THREADS=1 python benchmarks/optimizer.py RUN [--kinds adamw:16:0.002:16000 muon:16:0.002:16000 ...] [--quick]

RUN is a run of `medi run` from its hold-out on; its training patches alone are learned. A kind is an optimizer, a
batch, a learning rate and the images of its whole schedule; all else is the study's recipe, the warm-up a tenth of the
images. The loss is the averaged weights', on --draws noisy versions of the validation patches, the same for all kinds.
The last line is one JSON object.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from common import figure, report
from medi.cohort.table import Cohort
from medi.study.context import Study, reopen
from medi.training.trainer import Trainer

KINDS = ["adamw:16:0.002:16000", "muon:16:0.002:16000", "muon:32:0.0028:16000"]


def train(study: Study, train: Cohort, validation: Cohort, kind: str) -> tuple[float, float]:
    """Validation loss and CPU seconds of one kind."""
    optimizer, batch, rate, images = kind.split(":")
    recipe = replace(
        study.settings.training,
        optimizer=optimizer,
        batch=int(batch),
        learning_rate=float(rate),
        images=int(images),
        warmup=int(images) // 10,
        save_every=int(batch),
        early_average=0,
    )
    trainer = Trainer(train, study.settings.network, recipe, train.schema, study.settings.seed)
    start = time.process_time()
    losses = []
    while trainer.images < recipe.images:
        losses.append(trainer.step().item())
        if len(losses) * recipe.batch >= recipe.images / 8:
            print(f"{kind}: {trainer.images} images, loss {np.mean(losses):.4f}", flush=True)
            losses.clear()
    seconds = time.process_time() - start
    return trainer.validation_loss(validation), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="OPTIMIZER:BATCH:RATE:IMAGES")
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="64 images, one draw")
    options = parser.parse_args()
    if options.quick:
        options.kinds, options.draws = ["adamw:16:0.002:64", "muon:16:0.002:64"], 1
    study = reopen(str(options.run))
    cohort = study.split()
    patches, validation = cohort.where(split="train"), cohort.where(split="validation")
    drawn = validation.select(np.tile(np.arange(len(validation)), options.draws))
    figures = {}
    for kind in options.kinds:
        loss, seconds = train(study, patches, drawn, kind)
        against = f"{len(validation)} validation patches, {options.draws} noise draws each"
        figures[f"{kind}:loss"] = figure([loss], "", None, 1, against)
        figures[f"{kind}:seconds"] = figure([seconds], "CPU s", None, 1, "one training")
    report("optimizer", figures, ("torch", "diffusers", "numpy"))


if __name__ == "__main__":
    main()
