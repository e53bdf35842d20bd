"""A study from cohort to report, stage after stage: reading `run` from top to bottom is reading the method.

Each stage is a function of the settings and of what earlier stages wrote; `runs.Run` skips what is done.
"""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Float32

from medi import seeds
from medi.cohort import phantom
from medi.cohort.audit import audit
from medi.cohort.holdout import Rule, design
from medi.cohort.plan import balance
from medi.cohort.table import Cohort, concatenate
from medi.diffusion.sampling import generate
from medi.diffusion.training import train
from medi.evaluation import fidelity, utility
from medi.evaluation.encoders import embed, encoder
from medi.files import read_json, read_table, write_atomic, write_json, write_table, write_text
from medi.report.page import build
from medi.runs import Run, Show, Silent
from medi.settings import StudySettings

MODELS = ("cls", "medi")  # class alone (the baseline), class and metadata
REFERENCES = ("reference", "floor", "oracle")  # fresh real patches, each set from slides of its own
LIBRARIES = ("medi-histo", "torch", "diffusers", "numpy", "scikit-learn")

Embeddings = Float32[np.ndarray, "n d"]


def run(settings: StudySettings, out: Path, show: Show | None = None, redo: bool = False) -> dict[str, Any]:
    """The whole study in folder `out`; returns the content of results.json. The same call goes on after a kill."""
    study = Study(settings, Run(out, show or Silent(), redo))
    study.collect()  # the biased cohort
    study.audit()  # which combinations are missing, what gives the class away
    study.hold_out()  # take a part of the combinations away
    for model in MODELS:
        study.train(model)  # p(image | class) and p(image | class, metadata)
    study.plan()  # fill every combination to the same count
    for model in MODELS:
        study.sample(model)
    study.refer()  # fresh real patches of every combination: test set, floor, oracle
    study.embed()
    study.measure_fidelity()  # distances per combination and per class
    study.measure_utility()  # classifiers on real, real + CLS, real + MeDi, oracle
    return study.conclude()  # results.json, picture sheet, report.html


@dataclass(frozen=True)
class Study:
    """The stages; `stages.folder` holds what they wrote."""

    settings: StudySettings
    stages: Run

    def collect(self) -> None:
        s = self.settings

        def work(folder: Path) -> str:
            cohort = phantom.cohort(s.seed, s.cohort.size, s.cohort.patches)
            cohort.save(folder)
            return f"{len(cohort):,} patches of {cohort.table['patient'].nunique():,} patients"

        self.stages.stage("cohort", work, [s.cohort, s.seed, phantom.parameters_hash()])

    def audit(self) -> None:
        def work(folder: Path) -> str:
            cohort = self._cohort("cohort")
            found = audit(cohort.table, cohort.schema)
            found.save(folder)
            return "; ".join(found.summary())

        self.stages.stage("audit", work, reads=["cohort"])

    def hold_out(self) -> None:
        s = self.settings

        def work(folder: Path) -> str:
            cohort = self._cohort("cohort")
            rule = Rule(over=("class", s.attribute), rate=s.holdout.rate, validation=s.holdout.validation)
            held_out = design(cohort.table, cohort.schema, rule, s.seed)
            held_out.save(folder)
            return f"{len(held_out.certificate['held_out'])} combinations held out"

        self.stages.stage("holdout", work, [s.holdout, s.attribute, s.seed], ["cohort"])

    def train(self, model: str) -> None:
        s = self.settings

        def work(folder: Path) -> str:
            cohort = self._split()
            schema = cohort.schema if model == "medi" else cohort.schema.restrict([])
            with self.stages.show.bar(f"training {model}") as advance:
                train(cohort.where(split="train"), folder, s.network, s.training, schema, s.seed,
                      cohort.where(split="validation"), advance)  # fmt: skip
            return f"{s.training.images:,} images"

        self.stages.stage(f"models/{model}", work, [s.network, s.training, s.seed, model], ["holdout"])

    def plan(self) -> None:
        s = self.settings

        def work(folder: Path) -> str:
            cohort = self._split()
            plan = balance(cohort.table, cohort.schema, ("class", s.attribute), to=s.plan.to, minimum=s.plan.minimum)
            plan.save(folder / "plan.parquet")
            rows = plan.expand(s.seed, "plan")
            write_table(folder / "rows.parquet", rows)
            return f"{len(rows):,} images per model, {int(rows['fills'].sum()):,} of them to fill combinations"

        self.stages.stage("plan", work, [s.plan, s.attribute, s.seed], ["holdout"])

    def sample(self, model: str) -> None:
        s = self.settings

        def work(folder: Path) -> str:
            rows = read_table(self._folder("plan") / "rows.parquet")
            checkpoint = self._folder(f"models/{model}") / "model.safetensors"
            with self.stages.show.bar(f"sampling {model}") as advance:
                generate(checkpoint, rows, folder, s.seed, s.sampling, advance)
            return f"{len(rows):,} images, {s.sampling.steps} steps"

        self.stages.stage(f"samples/{model}", work, [s.sampling, s.seed], ["plan", f"models/{model}"])

    def refer(self) -> None:
        s = self.settings

        def work(folder: Path) -> str:
            cells = self._combinations()
            per_cell = {"reference": s.evaluation.patches, "floor": s.evaluation.distance_images, "oracle": s.plan.to}
            for name, n in per_cell.items():
                fresh = phantom.fresh(cells, n, s.seed, name, s.cohort.size, s.evaluation.patches_per_slide)
                fresh.save(folder / name)
            return f"{sum(per_cell.values()) * len(cells):,} fresh patches of all {len(cells)} combinations"

        self.stages.stage("references", work, [s.evaluation, s.plan, s.cohort, s.seed], ["holdout"])

    def embed(self) -> None:
        extractor = encoder(self.settings.evaluation.encoder)

        def work(folder: Path) -> str:
            sets = self._sets()
            total, done = sum(map(len, sets.values())), 0
            with self.stages.show.bar("embedding") as advance:
                for name, cohort in sets.items():
                    embeddings = embed(cohort, extractor, progress=lambda n, done=done: advance(done + n, total))
                    write_atomic(folder / f"{name}.npy", lambda path, array=embeddings: _save_array(path, array))
                    done += len(cohort)
            return f"{total:,} patches, {extractor.dimension} numbers each"

        reads = ["holdout", "references", *(f"samples/{model}" for model in MODELS)]
        self.stages.stage("embeddings", work, [extractor.name, extractor.hash], reads)

    def measure_fidelity(self) -> None: ...
