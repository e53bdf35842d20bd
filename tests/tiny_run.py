"""A run folder like a finished study's, with random weights and names that would love to be code (P11)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from medi.cohort.audit import audit
from medi.cohort.combinations import counts
from medi.cohort.holdout import design
from medi.cohort.pixels import Pixels
from medi.cohort.rule import Rule
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.files import write_json, write_text
from medi.core.seeds import generator
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.sampling.generate import generate
from medi.sampling.sampler import SamplerSettings
from medi.study.settings import StudySettings

SIZE = 32
EVIL = '<img src=x onerror="window.hacked=1">${window.hacked=2}{{value}}'
SITES = ("NA", EVIL, "Rowan")
SCHEMA = Schema(
    Attribute("class", levels=("LUAD", "LUSC")),
    (
        Attribute("site", levels=SITES),
        Attribute("grade", levels=("1", "2")),
        Attribute("age", "continuous", (), 60.0, 9.0),
    ),
)
HELD_OUT = ("LUSC", "Rowan")
NETWORK = NetworkSettings(size=SIZE, fold=4, channels=(8,), layers=1)


def write_run(folder: Path, dropout: float = 0.1) -> Path:
    """MeDi with conditioning dropout and CLS; the combination HELD_OUT has no training patch."""
    cohort = _cohort(240)
    cohort.save(folder / "cohort")
    audit(cohort.table, SCHEMA).save(folder / "audit")
    rule = Rule("named", ("class", "site"), held=(HELD_OUT,), test_seen=0.1, validation=0.1, reserve=0.0)
    holdout = design(cohort.table, SCHEMA, rule, 0)
    holdout.save(folder / "holdout")
    train = cohort.select((holdout.split == "train").to_numpy())
    for name, schema in (("cls", SCHEMA.restrict([])), ("medi", SCHEMA)):
        path = folder / "models" / name / "model.safetensors"
        denoiser, known = _denoiser(schema), {"recipe": {"dropout": dropout}}
        save_model(path, denoiser, Checkpoint.of(denoiser, **known, combinations=counts(train.table, schema)))
        generate(path, _plan(schema), folder / "samples" / name, 0, SamplerSettings(steps=2, batch=16))
    settings = StudySettings(title=f"Tiny & {EVIL}", network=NETWORK, sampling=SamplerSettings(steps=3))
    write_text(folder / "study.yaml", yaml.safe_dump(settings.model_dump(mode="json")))
    write_json(
        folder / "results.json", {"format_version": 1, "title": settings.title, "settings": {"attribute": "site"}}
    )
    stages = ("study.yaml", "cohort", "audit", "holdout", "models", "samples")
    record = {name: {"key": "k", "seconds": 0.1, "line": "done"} for name in stages}
    write_json(folder / "run.json", {"format_version": 1, "stages": record})
    return folder


def _cohort(n: int) -> Cohort:
    """Patients of five patches; each class and site has a colour."""
    rng, patient = generator("tiny run"), np.arange(n) // 5
    classes, sites = np.array(SCHEMA.classes.levels), np.array(SITES, dtype=object)
    table = pd.DataFrame({"sample_id": [f"s{i}" for i in range(n)], "class": classes[patient % 2].astype(object)})
    table = table.assign(patient=[f"p{i}" for i in patient], slide=[f"p{i}-1" for i in patient])
    table = table.assign(site=sites[patient // 2 % 3], grade=np.where(patient % 4 == 0, "", "1"), age="61")
    base = 90 + 25 * (patient % 2)[:, None] + 30 * (patient // 2 % 3)[:, None] * np.array([1, 0, 1])
    images = base[:, None, None, :] + rng.integers(0, 40, (n, SIZE, SIZE, 3))
    return Cohort(table, SCHEMA, Pixels.of(images.astype(np.uint8)))


def _denoiser(schema: Schema) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(replace(NETWORK), schema)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return denoiser.eval()


def _plan(schema: Schema) -> pd.DataFrame:
    cells = [(c, s) for c in schema.classes.levels for s in SITES for _ in range(3)]
    rows = pd.DataFrame(cells, columns=["class", "site"]).assign(grade="1", age="61")
    ids = [f"{c}.{i}" for i, c in enumerate(rows["class"])]
    return rows[[a.name for a in schema.conditions]].assign(sample_id=ids, noise_id=ids)
